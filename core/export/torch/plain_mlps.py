class GatedMlp(nn.Module):
    """down(activation(gate x) * up x)"""

    activation = staticmethod(F.silu)

    def __init__(self, c, dims):
        super().__init__()
        self.gate = nn.Linear(dims.hidden_size, c["intermediate_size"], bias=False)
        self.up = nn.Linear(dims.hidden_size, c["intermediate_size"], bias=False)
        self.down = nn.Linear(c["intermediate_size"], dims.hidden_size, bias=False)

    def forward(self, x, ctx):
        return self.down(self.activation(self.gate(x)) * self.up(x)), {}


class Glu(GatedMlp):
    activation = staticmethod(torch.sigmoid)


class UpDownMlp(nn.Module):
    """down(activation(up x))"""

    def __init__(self, c, dims):
        super().__init__()
        self.c = c
        self.up = nn.Linear(dims.hidden_size, c["intermediate_size"], bias=False)
        self.down = nn.Linear(c["intermediate_size"], dims.hidden_size, bias=False)

    def activation(self, x):
        return F.gelu(x)

    def forward(self, x, ctx):
        return self.down(self.activation(self.up(x))), {}


class LeakyReluSquared(UpDownMlp):
    def activation(self, x):
        return torch.maximum(x, x * self.c["negative_slope"]).square()
