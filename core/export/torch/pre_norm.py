class PreNorm(nn.Module):
    """x + mixer(norm x), then x + mlp(norm x)"""

    def __init__(self, c, dims):
        super().__init__()
        self.mixer_norm, self.mlp_norm = make_norm(c["norm"], dims), make_norm(c["norm"], dims)

    def forward(self, x, x0, mixer, mlp):
        x = x + mixer(self.mixer_norm(x))
        return x + mlp(self.mlp_norm(x))
