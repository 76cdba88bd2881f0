class Attention(nn.Module):
    """Causal attention: grouped query heads, rotary positions, and what the config has on top."""

    def __init__(self, c, dims):
        super().__init__()
        self.c, self.dims = c, dims
        self.heads = c["num_attention_heads"]
        self.shared = c.get("num_key_value_heads", self.heads)
        self.width = c.get("head_dim", dims.hidden_size // self.heads)
        self.rotary = 2 * math.floor(self.width * c["partial_rotary_factor"] / 2)
        self.fan = Fan(c["fan"], dims) if "fan" in c else None
        into, bias = self.fan.width if self.fan is not None else dims.hidden_size, c["attention_bias"]
        self.q = nn.Linear(into, self.heads * self.width, bias=bias)
        self.k = nn.Linear(into, self.shared * self.width, bias=bias)
        self.v = nn.Linear(into, self.shared * self.width, bias=bias)
        self.o = nn.Linear(self.heads * self.width, dims.hidden_size, bias=False)
        if c["qk_norm"]:
            weight, centered = c["qk_norm_weight"], c["qk_norm_zero_centered"]
            self.q_norm = RMSNorm(self.width, c["qk_norm_eps"], weight, centered)
            self.k_norm = RMSNorm(self.width, c["qk_norm_eps"], weight, centered)
        if "query_gain" in c:
            self.query_gain = nn.Parameter(torch.full((self.heads,), float(c["query_gain"])))
        if c["value_residual"]:
            self.value_mix = nn.Parameter(torch.full((2,), 0.5))
        if c["value_embedding"]:
            self.value_embedding_scale = nn.Parameter(torch.ones(1))
        if c["output_gate"] != "none":
            each = self.width if c["output_gate"] == "channel" else 1
            self.gate = nn.Linear(into, self.heads * each, bias=each == 1)

    def placed(self, x, norm, ctx):
        x = norm(x) if norm is not None else x
        positions = ctx.row_positions if self.c["positions"] == "row" else ctx.positions
        return turned(x, positions, self.rotary, self.c, self.dims)

    def values(self, x, ctx):
        """The layer's own values, mixed with the first layer's, and those for later layers."""
        v = heads_of(self.v(x), self.shared)
        if self.c["value_embedding"] and not ctx.is_replay:
            v = v + ctx.streams["value_embedding"].view_as(v) * self.value_embedding_scale
        if not self.c["value_residual"]:
            return v, {}
        if "first_values" not in ctx.streams:
            return v, {"first_values": v}
        return self.value_mix[0] * ctx.streams["first_values"] + self.value_mix[1] * v, {}

    def seen(self, q, k, v, segment_ids):
        """[batch, time, heads, width] of what each query sees."""
        time, groups = q.shape[1], self.heads // self.shared
        k, v = (x.repeat_interleave(groups, 2).transpose(1, 2) for x in (k, v))
        q, window, softcap = q.transpose(1, 2), self.c["window"], self.c["softcap"]
        is_plain = window == 0 and segment_ids is None
        fused = getattr(F, "scaled_dot_product_attention", None) if softcap == 0 else None
        if fused is not None and is_plain:
            return fused(q, k, v, is_causal=True).transpose(1, 2)
        at = torch.arange(time, device=q.device)
        back = at[:, None] - at[None, :]
        mask = (back >= 0) & (back < window) if window > 0 else back >= 0
        if segment_ids is not None:
            mask = mask & (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]
        if fused is not None:
            return fused(q, k, v, attn_mask=mask).transpose(1, 2)
        scores = (q.float() @ k.float().transpose(-1, -2)) / math.sqrt(self.width)
        if softcap > 0:
            scores = softcap * torch.tanh(scores / softcap)
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return (weights.to(v.dtype) @ v).transpose(1, 2)

    def forward(self, x, ctx):
        x = self.fan(x) if self.fan is not None else x
        q = self.placed(heads_of(self.q(x), self.heads), getattr(self, "q_norm", None), ctx)
        k = self.placed(heads_of(self.k(x), self.shared), getattr(self, "k_norm", None), ctx)
        if "query_gain" in self.c:
            q = q * self.query_gain[:, None]
        v, streams = self.values(x, ctx)
        y = self.seen(q, k, v, ctx.segment_ids)
        if self.c["exclusive"]:
            y = without_own_value(y, v)
        if self.c["output_gate"] != "none":
            y = y * heads_of(torch.sigmoid(self.gate(x)), self.heads)
        out = self.o(y.reshape(*y.shape[:2], -1))
        return F.dropout(out, self.c["dropout"], self.training), {"streams": streams}


def without_own_value(y, v):
    """y less its part along the token's own value, for each query head of a key head."""
    seen = y.reshape(*v.shape[:3], -1, v.shape[3])
    own = v.unsqueeze(3)
    length = own.square().sum(-1, keepdim=True).clamp(min=1e-24)
    return (seen - (seen * own).sum(-1, keepdim=True) / length * own).reshape(y.shape)
