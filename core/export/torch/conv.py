def causal_conv(x, taps, segment_ids):
    """x [batch, time, channels], taps [count, channels]: the last tap is a token's own; segments do not mix."""
    count, time = taps.shape[0], x.shape[1]
    out = x * taps[-1]
    for back in range(1, min(count, time)):
        moved = F.pad(x, (0, 0, back, 0))[:, :time]
        if segment_ids is not None:
            same = segment_ids == F.pad(segment_ids, (back, 0), value=-2)[:, :time]
            moved = moved * same.unsqueeze(-1).to(x.dtype)
        out = out + moved * taps[count - 1 - back]
    return out
