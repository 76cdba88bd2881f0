def gated_delta_rule(q, k, v, g, beta, segment_ids, size=64):
    """S <- e^g S; d = beta (v - S k); S <- S + k d; o = S q, in chunks (Yang et al. 2024, arXiv 2412.06464).

    q, k [batch, time, heads, key width]; v [batch, time, heads, value width]; g, beta [batch, time, heads].
    Each segment begins with an empty state.
    """
    batch, time, heads, dk = k.shape
    dv, size = v.shape[-1], min(size, time)
    chunks = -(-time // size)
    missing = chunks * size - time

    def divided(x):  # [chunks, batch, heads, size, width]
        x = F.pad(x.float(), (0, 0, 0, 0, 0, missing))
        return x.view(batch, chunks, size, heads, -1).permute(1, 0, 3, 2, 4)

    q, k, v = divided(q), divided(k), divided(v)
    g, beta = divided(g.unsqueeze(-1)), divided(beta.unsqueeze(-1))
    lower = torch.ones(size, size, device=q.device, dtype=torch.bool).tril()
    # sums of g between two tokens, not differences of sums: those lose all digits behind a gate that is shut
    between = torch.where(lower.tril(-1), g, torch.zeros((), device=q.device)).cumsum(-2)
    decays = torch.where(lower, between.exp(), torch.zeros((), device=q.device))
    reach, until_end = g.cumsum(-2).exp(), between[..., -1, :].exp().unsqueeze(-1)
    if segment_ids is not None:
        ids = F.pad(segment_ids, (0, missing), value=-3).view(batch, chunks, size)
        if missing:  # the last segment goes on
            ids[:, -1, size - missing :] = segment_ids[:, -1:]
        ids = ids.transpose(0, 1)[:, :, None]  # [chunks, batch, 1, size]
        before = torch.cat([ids[:1, ..., :1], ids[:-1, ..., -1:]])
        decays = decays * (ids.unsqueeze(-1) == ids.unsqueeze(-2))
        reach = reach * (ids == before).unsqueeze(-1)
        until_end = until_end * (ids == ids[..., -1:]).unsqueeze(-1)
    system = (k @ k.transpose(-1, -2) * decays * beta).tril(-1) + torch.eye(size, device=q.device)
    solve = lambda x: torch.linalg.solve_triangular(system, x, upper=False, unitriangular=True)
    own, of_state = solve(v * beta), solve(k * (beta * reach))
    scores, leaving, kept = q @ k.transpose(-1, -2) * decays, k * until_end, reach[..., -1:, :]
    state, outs = q.new_zeros(batch, heads, dk, dv), []
    for n in range(chunks):
        corrected = own[n] - of_state[n] @ state
        outs.append((q[n] * reach[n]) @ state + scores[n] @ corrected)
        state = state * kept[n] + leaving[n].transpose(-1, -2) @ corrected
    out = torch.stack(outs, 1).permute(0, 1, 3, 2, 4).reshape(batch, chunks * size, heads, dv)
    return out[:, :time]


class GatedDelta(nn.Module):
    """Gated DeltaNet as in Qwen3-Next: a state that forgets, and corrects what it says of each key."""

    def __init__(self, c, dims):
        super().__init__()
        self.c, self.key_heads = c, c["num_key_heads"]
        self.value_heads = c.get("num_value_heads", self.key_heads)
        self.keys, self.values = self.key_heads * c["key_head_dim"], self.value_heads * c["value_head_dim"]
        self.fan = Fan(c["fan"], dims) if "fan" in c else None
        into, channels = self.fan.width if self.fan is not None else dims.hidden_size, 2 * self.keys + self.values
        self.qkv = nn.Linear(into, channels, bias=False)
        self.z = nn.Linear(into, self.values, bias=False)
        self.ba = nn.Linear(into, 2 * self.value_heads, bias=False)
        self.conv = nn.Parameter(torch.empty(c["conv_kernel_dim"], channels).uniform_(-0.5, 0.5))
        self.A_log = nn.Parameter(torch.empty(self.value_heads).uniform_(1e-3, 16).log())
        self.dt_bias = nn.Parameter(torch.ones(self.value_heads))
        self.norm = RMSNorm(c["value_head_dim"], c["norm_eps"])
        self.o = nn.Linear(self.values, dims.hidden_size, bias=False)

    def forward(self, x, ctx):
        x = self.fan(x) if self.fan is not None else x
        b, a = self.ba(x).float().chunk(2, -1)
        g = -self.A_log.float().exp() * F.softplus(a + self.dt_bias.float(), threshold=1e9)
        active = F.silu(causal_conv(self.qkv(x), self.conv, ctx.segment_ids))
        q, k, v = active.split([self.keys, self.keys, self.values], -1)
        served = self.value_heads // self.key_heads

        def unit(x, length):
            x = heads_of(x, self.key_heads).float()
            x = x * (torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6) * length)
            return x.repeat_interleave(served, 2)

        q, k = unit(q, 1 / math.sqrt(self.c["key_head_dim"])), unit(k, 1.0)
        v = heads_of(v, self.value_heads)
        out = gated_delta_rule(q, k, v, g, torch.sigmoid(b), ctx.segment_ids)
        gated = self.norm(out) * F.silu(heads_of(self.z(x), self.value_heads).float())
        out = self.o(gated.to(x.dtype).reshape(*x.shape[:2], -1))
        return F.dropout(out, self.c["dropout"], self.training), {}
