class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps), times a gain a channel; in f32."""

    def __init__(self, width, eps, weight=True, zero_centered=False, scale=1.0):
        super().__init__()
        self.eps, self.zero_centered, self.scale = eps, zero_centered, scale
        start = torch.zeros(width) if zero_centered else torch.ones(width)
        self.weight = nn.Parameter(start) if weight else None

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        if self.weight is not None:
            gain = self.weight.float() + (1.0 if self.zero_centered else 0.0)
            y = y * (gain * self.scale)
        elif self.scale != 1.0:
            y = y * self.scale
        return y.to(x.dtype)


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the channels, times a gain, and a bias; in f32."""

    def __init__(self, width, eps, bias=True, scale=1.0):
        super().__init__()
        self.eps, self.scale = eps, scale
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        y = F.layer_norm(x.float(), x.shape[-1:], eps=self.eps) * (self.weight.float() * self.scale)
        if self.bias is not None:
            y = y + self.bias.float() * self.scale
        return y.to(x.dtype)


def make_norm(c, dims):
    scale = 1.0 / math.sqrt(dims.layer + 1) if c.get("layernorm_scaling") else 1.0
    if c["kind"] == "layer_norm":
        return LayerNorm(dims.hidden_size, c["eps"], c["bias"], scale)
    return RMSNorm(dims.hidden_size, c["eps"], c["weight"], c["zero_centered"], scale)
