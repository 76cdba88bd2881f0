class PolyNorm(nn.Module):
    """Normed powers of x, weighed (Zhuo et al. 2024, arXiv 2411.03884)."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((3,), 1 / 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        y, weight = x.float(), self.weight.float()
        total = self.bias.float()
        for i, power in enumerate([y * y * y, y * y, y]):
            norm = torch.rsqrt(power.square().mean(-1, keepdim=True) + self.eps)
            total = total + power * (norm * weight[i])
        return total.to(x.dtype)


class PolyNormMlp(nn.Module):
    """down(polynorm(gate x) * up x), or down(polynorm(up x))"""

    def __init__(self, c, dims):
        super().__init__()
        self.c, size = c, c["intermediate_size"]
        self.gate = nn.Linear(dims.hidden_size, size, bias=False) if c["gated"] else None
        self.up = nn.Linear(dims.hidden_size, size, bias=False)
        self.down = nn.Linear(size, dims.hidden_size, bias=False)
        self.polynorm = PolyNorm(c["eps"])

    def forward(self, x, ctx):
        up = self.up(x)
        units = self.polynorm(up) if self.gate is None else self.polynorm(self.gate(x)) * up
        return self.down(F.dropout(units, self.c["dropout"], self.training)), {}
