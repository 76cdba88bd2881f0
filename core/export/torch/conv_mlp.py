class ConvMlp(nn.Module):
    """down(gelu(up c)), c being x convolved over a few tokens, a channel at a time."""

    def __init__(self, c, dims):
        super().__init__()
        taps = torch.zeros(c["conv_kernel_dim"], dims.hidden_size)
        taps[-1] = 1
        self.conv = nn.Parameter(taps)
        self.conv_bias = nn.Parameter(torch.zeros(dims.hidden_size)) if c["conv_bias"] else None
        self.up = nn.Linear(dims.hidden_size, c["intermediate_size"], bias=False)
        self.down = nn.Linear(c["intermediate_size"], dims.hidden_size, bias=False)

    def forward(self, x, ctx):
        x = causal_conv(x, self.conv, ctx.segment_ids)
        x = x if self.conv_bias is None else x + self.conv_bias
        return self.down(F.gelu(self.up(x))), {}
