ROPE_TABLES = {}


def rope_tables(positions, channels, theta, device):
    """cos and sin, [positions, channels / 2]: made in double precision, once for each device."""
    key = (positions, channels, theta, str(device))
    if key not in ROPE_TABLES:
        steps = torch.arange(0, channels, 2, dtype=torch.float64) / channels
        angles = torch.outer(torch.arange(positions, dtype=torch.float64), theta**-steps)
        ROPE_TABLES[key] = angles.cos().float().to(device), angles.sin().float().to(device)
    return ROPE_TABLES[key]


def rotary_base(c, positions, channels):
    """Longer texts than those that theta is meant for turn slower."""
    times = positions / c.get("rope_original_positions", positions)
    if times > 1 and channels > 2:
        return c["rope_theta"] * times ** (channels / (channels - 2))
    return c["rope_theta"]


def turned(x, positions, channels, c, dims):
    """x [batch, time, heads, width]: its first channels turned by positions [batch, time]."""
    if channels == 0:
        return x
    count = dims.max_position_embeddings
    cos, sin = rope_tables(count, channels, rotary_base(c, count, channels), x.device)
    at = positions.clamp(0, count - 1)
    cos, sin = cos[at].unsqueeze(2), sin[at].unsqueeze(2) * c["rope_direction"]
    first, second, rest = x.float().split([channels // 2, channels // 2, x.shape[-1] - channels], -1)
    parts = [first * cos - second * sin, second * cos + first * sin, rest]
    return torch.cat(parts, -1).to(x.dtype)
