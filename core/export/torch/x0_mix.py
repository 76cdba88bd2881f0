class X0Mix(nn.Module):
    """Takes up the input's output x0 again before each layer; a factor a channel for each sum."""

    def __init__(self, c, dims):
        super().__init__()
        width = dims.hidden_size
        self.parallel = c["parallel"]
        self.mix = nn.ParameterDict({"x": nn.Parameter(torch.ones(width)), "x0": nn.Parameter(torch.zeros(width))})
        self.mixer_norm, self.mlp_norm = make_norm(c["norm"], dims), make_norm(c["norm"], dims)
        self.mixer_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))

    def forward(self, x, x0, mixer, mlp):
        x = self.mix["x"] * x + self.mix["x0"] * x0
        y = x + self.mixer_scale * mixer(self.mixer_norm(x))
        return y + self.mlp_scale * mlp(self.mlp_norm(x if self.parallel else y))
