class SoftRouter(nn.Module):
    """Two layers whose result weighs branches for each token; in f32."""

    def __init__(self, size, branches, dims):
        super().__init__()
        self.hidden = nn.Linear(dims.hidden_size, size)
        self.out = nn.Linear(size, branches)

    def forward(self, x, tau):
        hidden = F.gelu(F.linear(x.float(), self.hidden.weight.float(), self.hidden.bias.float()))
        return (F.linear(hidden, self.out.weight.float(), self.out.bias.float()) / tau).softmax(-1)


def normalized_entropy(weights):
    """1 where all are alike."""
    return -(weights * (weights + 1e-9).log()).sum(-1) / math.log(weights.shape[-1])


class Polymorphic(nn.Module):
    """Branches of different form see the same input; a router weighs what they give, for each token."""

    def __init__(self, c, dims):
        super().__init__()
        self.c, self.layer, self.at = c, dims.layer, f"layers.{dims.layer}.mlp"
        size = c.get("router_size", max(64, dims.hidden_size // 6))
        self.router = SoftRouter(size, len(c["branches"]), dims)
        self.branches = nn.ModuleList([MLPS[branch["kind"]](branch, dims) for branch in c["branches"]])

    def forced(self, weights, ctx):
        """In training a branch gets all the weight now and then, whatever the router says."""
        each, (batch, time, count) = self.c["forcing"]["each"], weights.shape
        shape = (1 if each == "batch" else batch, time if each == "token" else 1, 1)
        branch = torch.randint(count, shape, device=weights.device)
        is_forced = torch.rand(shape, device=weights.device) < ctx.scalar(self.at, "force_prob")
        return torch.where(is_forced, (branch == torch.arange(count, device=weights.device)).float(), weights)

    def uneven(self, weights):
        """[batch, time]"""
        if self.c["entropy_of"] == "token":
            return 1 - normalized_entropy(weights)
        return (1 - normalized_entropy(weights.mean((0, 1)))).expand(weights.shape[:2])

    def forward(self, x, ctx):
        weights = self.router(x, ctx.scalar(self.at, "tau"))
        used = self.forced(weights, ctx) if self.training and "forcing" in self.c else weights
        used = used.to(x.dtype)
        out = sum(branch(x, ctx)[0] * used[..., i : i + 1] for i, branch in enumerate(self.branches))
        name = "router_entropy" + ("" if self.c["aux_over_layers"] == "mean" else f".{self.layer}")
        return out, {"aux": {name: self.uneven(weights) * ctx.scalar(self.at, "aux_weight")}}
