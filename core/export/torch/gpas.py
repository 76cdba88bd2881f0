class Gpas(nn.Module):
    """Sums scaled by 1 - silu(gate), whose gradient passes unscaled (Chen et al. 2025, arXiv 2506.22049)."""

    def __init__(self, c, dims):
        super().__init__()
        self.mixer_norm, self.mlp_norm = make_norm(c["norm"], dims), make_norm(c["norm"], dims)
        for name in ["gate"] if c["gates"] == "shared" else ["mixer_gate", "mlp_gate"]:
            setattr(self, name, nn.Parameter(torch.zeros(1)))

    def scaled(self, x, half):
        gate = self.gate if hasattr(self, "gate") else getattr(self, half + "_gate")
        return x - F.silu(gate) * x.detach()

    def forward(self, x, x0, mixer, mlp):
        x = self.scaled(x + mixer(self.mixer_norm(x)), "mixer")
        return self.scaled(x + mlp(self.mlp_norm(x)), "mlp")
