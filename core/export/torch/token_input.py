class ProjectedTable(nn.Module):
    """A table whose rows are projected and scaled."""

    def __init__(self, rows, size, out, scale):
        super().__init__()
        self.embedding = nn.Embedding(rows, size)
        self.projection = nn.Linear(size, out, bias=False)
        self.scale = nn.Parameter(torch.full((1,), float(scale)))

    def forward(self, ids):
        return self.projection(self.embedding(ids)) * self.scale


def bigram_buckets(ids, begins, buckets):
    """The row of each token's pair with the one before it, by a hash in 32 bits; the last where a segment begins."""
    wrapped = lambda x: (x + 2**31) % 2**32 - 2**31
    before = F.pad(ids, (1, 0))[:, : ids.shape[1]]
    hashes = torch.bitwise_xor(wrapped(36313 * ids), wrapped(27191 * before))
    return torch.where(begins, torch.full_like(ids, buckets - 1), torch.remainder(hashes, buckets - 1))


class TokenInput(nn.Module):
    """A row of a table for each token, and what the config has on top."""

    def __init__(self, c, dims):
        super().__init__()
        self.c, width = c, dims.hidden_size
        self.embedding = nn.Embedding(dims.vocab_size, width)
        pairs, values = c.get("bigram"), c.get("value_embedding")
        self.bigram = ProjectedTable(pairs["buckets"], pairs["size"], width, pairs["scale"]) if pairs else None
        self.norm = make_norm(c["norm"], dims) if "norm" in c else None
        self.smear = nn.Parameter(torch.zeros(width)) if c["smear"] else None
        self.value_embedding = (
            ProjectedTable(dims.vocab_size, values["size"], values["channels"], values["scale"]) if values else None
        )

    def forward(self, ids, ctx):
        x = self.embedding(ids)
        if self.bigram is not None:
            x = x + self.bigram(bigram_buckets(ids, ctx.begins, self.c["bigram"]["buckets"]))
        x = self.norm(x) if self.norm is not None else x
        if self.smear is not None:
            gate = torch.sigmoid(self.smear)
            x = causal_conv(x, torch.stack([gate, 1 - gate]), ctx.segment_ids)
        streams = {} if self.value_embedding is None else {"value_embedding": self.value_embedding(ids)}
        return x, streams
