class Fan(nn.Linear):
    """One projection of which a part goes through cosine and sine (Dong et al. 2025, arXiv 2502.21309)."""

    def __init__(self, c, dims):
        extra = math.floor(c["ratio"] * dims.hidden_size) if c["width"] == "expanded" else 0
        self_width = dims.hidden_size + extra
        periodic = math.floor(c["ratio"] * self_width)
        super().__init__(dims.hidden_size, self_width - periodic, bias=c["bias"])
        self.periodic, self.width, self.activation = periodic, self_width, c["activation"]

    def forward(self, x):
        z = super().forward(x)
        waves, rest = z[..., : self.periodic], z[..., self.periodic :]
        if self.activation == "gelu":
            rest = F.gelu(rest)
        return torch.cat([waves.cos(), waves.sin(), rest], -1)
