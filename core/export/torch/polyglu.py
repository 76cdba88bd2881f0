ACTIVATIONS = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: F.softplus(x, threshold=1e9),
    "relu_squared": lambda x: F.relu(x).square(),
}


class PolygluRouter(nn.Module):
    """What units prefer (alpha), and the pull on all of them by a small net that reads the tokens' mean."""

    def __init__(self, c, dims):
        super().__init__()
        units, kinds = c["intermediate_size"], len(c["activations"])
        self.alpha = nn.Parameter(torch.zeros(units, kinds))
        self.scale = nn.Parameter(torch.ones(kinds))
        self.hidden = nn.Linear(dims.hidden_size, c["router_size"])
        self.out = nn.Linear(c["router_size"], kinds)
        self.pooling = c["pooling"]

    def forward(self, x, ctx):
        """[batch, time or 1, kinds]"""
        features = F.linear(x, self.hidden.weight).float()
        if self.pooling == "sequence":
            means = features.mean(1, keepdim=True)
        else:
            means = running_mean(features, ctx.starts)
        hidden = F.relu(means + self.hidden.bias.float())
        return self.scale.float() * F.linear(hidden, self.out.weight.float(), self.out.bias.float())


def running_mean(x, starts):
    """Of the tokens of a segment up to each; starts [batch, time]: where its segment begins."""
    sums = x.double().cumsum(1)
    before = F.pad(sums, (0, 0, 1, 0)).gather(1, starts.unsqueeze(-1).expand_as(sums))
    counts = torch.arange(1, x.shape[1] + 1, device=x.device) - starts
    return ((sums - before) / counts.unsqueeze(-1)).to(x.dtype)


class Polyglu(nn.Module):
    """A gated mlp whose hidden units each mix several activations."""

    def __init__(self, c, dims):
        super().__init__()
        self.c, self.at = c, f"layers.{dims.layer}.mlp"
        self.gate = nn.Linear(dims.hidden_size, c["intermediate_size"], bias=False)
        self.up = nn.Linear(dims.hidden_size, c["intermediate_size"], bias=False)
        self.down = nn.Linear(c["intermediate_size"], dims.hidden_size, bias=False)
        self.router = PolygluRouter(c, dims)

    def weights(self, x, ctx):
        """[batch, time or 1, units, kinds]"""
        logits = self.router.alpha.float() + self.router(x, ctx).unsqueeze(2)
        if self.c["routing_noise"] == "always" or (self.c["routing_noise"] == "training" and self.training):
            shape = (x.shape[0], 1, *self.router.alpha.shape)
            uniforms = torch.rand(shape, device=x.device).clamp(1e-10, 1 - 1e-7)
            logits = logits - torch.log(-torch.log(uniforms))
        return (logits / ctx.scalar(self.at, "tau")).softmax(-1).to(x.dtype)

    def forward(self, x, ctx):
        gates, weights = self.gate(x), self.weights(x, ctx)
        mixed = sum(ACTIVATIONS[name](gates) * weights[..., i] for i, name in enumerate(self.c["activations"]))
        return self.down(mixed * self.up(x)), {}
