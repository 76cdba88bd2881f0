def scheduled(schedule, step):
    """The value of a schedule at an update; spans are in updates."""
    if not isinstance(schedule, dict):
        return schedule
    if schedule["kind"] == "points":
        points = schedule["points"]
        before = next((p for p in reversed(points) if p[0] <= step), points[0])
        after = next((p for p in points if p[0] > step), None)
        if after is None or after is points[0] or schedule["interpolate"] == "hold":
            return before[1]
        return before[1] + (after[1] - before[1]) * (step - before[0]) / (after[0] - before[0])
    peak, warmup = schedule["peak"], schedule["warmup"]
    if step < warmup:
        start = schedule.get("start")
        return peak * (step + 1) / (warmup + 1) if start is None else start + (peak - start) * step / warmup
    first, end = schedule["first"], schedule.get("end", peak)  # where it begins to fall
    length = schedule["steps"] - first
    done = min(1.0, max(0.0, (step - first) / length)) if length > 0 else float(step > first)
    left = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2}.get(schedule["kind"], 1 - done)
    return end + (peak - end) * left


class Layer(nn.Module):
    def __init__(self, block, dims):
        super().__init__()
        self.residual = RESIDUALS[block["residual"]["kind"]](block["residual"], dims)
        self.mixer = MIXERS[block["mixer"]["kind"]](block["mixer"], dims)
        self.mlp = MLPS[block["mlp"]["kind"]](block["mlp"], dims)

    def forward(self, x, x0, ctx):
        """-> x, streams for later layers, further losses a token"""
        streams, aux = {}, {}

        def run(part):
            def call(y):
                out, told = part(y, ctx)
                streams.update(told.get("streams", {}))
                aux.update(told.get("aux", {}))
                return out

            return call

        return self.residual(x, x0, run(self.mixer), run(self.mlp)), streams, aux


BASES = (nn.Module,) if PreTrainedModel is None else (PreTrainedModel, GenerationMixin)


class QuernForCausalLM(*BASES):
    config_class = QuernConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _no_split_modules = ["Layer"]
    _supports_sdpa = True

    def __init__(self, config):
        if PreTrainedModel is None:
            super().__init__()
            self.config = config
        else:
            super().__init__(config)
        tree = self.tree = config.tree
        self.dims = [
            SimpleNamespace(
                hidden_size=tree["hidden_size"],
                vocab_size=config.vocab_size,
                max_position_embeddings=config.max_position_embeddings,
                layer=layer,
            )
            for layer in range(sum(block["repeat"] for block in tree["blocks"]))
        ]
        first, width = self.dims[0], tree["hidden_size"]
        self.input = TokenInput(tree["input"], first)
        blocks = [block for block in tree["blocks"] for _ in range(block["repeat"])]
        self.layers = nn.ModuleList([Layer(block, dims) for block, dims in zip(blocks, self.dims)])
        self.passes = [
            {"layer": each, "modulated": False} if isinstance(each, int) else each
            for each in tree.get("order") or range(len(blocks))
        ]
        self.modulations = nn.ModuleList(
            [Modulation(width) for each in self.passes if each["modulated"]]
        )
        self.skips = nn.ModuleList([Skip(width) for _ in tree["skips"]])
        self.norm = make_norm(tree["norm"], first)
        is_tied = tree["head"]["tie_word_embeddings"]
        self.head = None if is_tied else nn.Linear(width, first.vocab_size, bias=False)
        self.gradient_checkpointing = False
        self.step = config.step
        if PreTrainedModel is not None:
            self.post_init()

    def _init_weights(self, module):
        """Parts begin as they are made; weights come from a file."""

    def get_input_embeddings(self):
        return self.input.embedding

    def set_input_embeddings(self, value):
        self.input.embedding = value

    def get_output_embeddings(self):
        return self.head

    def set_step(self, step):
        """Values that quern scheduled stand at this update; at first at the one that the weights were saved at."""
        self.step = step

    def context(self, ids, attention_mask, position_ids, segment_ids):
        """What parts are told besides their input. Padding is a segment of its own."""
        if attention_mask is not None and (attention_mask == 0).any():
            own = torch.zeros_like(ids) if segment_ids is None else segment_ids
            segment_ids = torch.where(attention_mask.bool(), own, torch.full_like(ids, -1))
        at = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if segment_ids is None:
            starts = torch.zeros_like(ids)
        else:
            changes = torch.ones_like(ids, dtype=torch.bool)
            changes[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
            starts = torch.where(changes, at, torch.zeros_like(at)).cummax(1).values
        step, schedules = self.step, self.config.schedules
        return SimpleNamespace(
            segment_ids=segment_ids,
            starts=starts,
            begins=starts == at,
            positions=at - starts if position_ids is None else position_ids,
            row_positions=at,
            scalar=lambda path, name: scheduled(schedules[path][name], step),
            streams={},
            is_replay=False,
        )

    def hidden_states(self, ids, ctx):
        """-> after the last norm [batch, time, channels], and further losses by name, a tensor for each pass"""
        x, ctx.streams = self.input(ids, ctx)
        x0, outputs, aux, modulated = x, [], {}, 0
        for at, each in enumerate(self.passes):
            for skip, module in zip(self.tree["skips"], self.skips):
                if skip["to"] == at:
                    x = x + module.weight * outputs[skip["from"]]
            if each["modulated"]:
                x = self.modulations[modulated](x)
                modulated += 1
            is_replay = any(before["layer"] == each["layer"] for before in self.passes[:at])
            told = SimpleNamespace(**{**vars(ctx), "is_replay": is_replay})
            layer = self.layers[each["layer"]]
            if self.gradient_checkpointing and self.training:
                x, streams, losses = checkpoint(layer, x, x0, told, use_reentrant=False)
            else:
                x, streams, losses = layer(x, x0, told)
            ctx.streams = {**ctx.streams, **streams}
            outputs.append(x)
            for name, loss in losses.items():
                aux.setdefault(name, []).append(loss)
        return self.norm(x), aux

    def logits(self, hidden):
        weight = self.input.embedding.weight if self.head is None else self.head.weight
        logits, cap = F.linear(hidden, weight), self.tree["head"]["softcap"]
        return cap * torch.tanh(logits / cap) if cap > 0 else logits

    def objective(self, logits, ids, labels, aux, count):
        """Mean over the labels that count, each said by the token before it; in training with what the config adds."""
        logits, targets = logits[:, :-1].float(), labels[:, 1:]
        counted = (targets != -100).float()
        add = self.config.loss if self.training else {}
        smoothing = add.get("label_smoothing", 0.0)
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing, reduction="sum")
        if self.training:
            for losses in aux.values():
                total = total + (sum(losses)[:, :-1] / len(losses) * counted).sum()
        if add.get("z_loss", 0) > 0:
            total = total + add["z_loss"] * (logits.logsumexp(-1).square() * counted).sum()
        if add.get("repetition", 0) > 0:
            again = ids[:, :-1]
            p = logits.log_softmax(-1).gather(-1, again.unsqueeze(-1)).squeeze(-1).exp()
            loss = -(1 - p).clamp(min=1e-6).log() * counted * (again != targets)
            total = total + add["repetition"] * loss.sum()
        return total / (counted.sum() if count is None else count)

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        labels=None,
        segment_ids=None,
        num_items_in_batch=None,
        **_,
    ):
        """input_ids [batch, time] -> logits [batch, time, vocab], and the loss of labels [batch, time], -100 for none.

        segment_ids [batch, time]: tokens of different documents in a row do not see each other.
        """
        ctx = self.context(input_ids, attention_mask, position_ids, segment_ids)
        hidden, aux = self.hidden_states(input_ids, ctx)
        logits = self.logits(hidden)
        loss = None
        if labels is not None:
            loss = self.objective(logits, input_ids, labels, aux, num_items_in_batch)
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **_):
        """Nothing is kept between tokens: the whole text is read for each."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}


class Modulation(nn.Module):
    """What stands before a pass of its own: a scale and a shift a channel."""

    def __init__(self, width):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * self.scale + self.shift


class Skip(nn.Module):
    """The factors of an earlier pass's output, a channel each."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_safetensors(path):
    """The tensors of a file by name, without a package for it."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items(), key=lambda each: each[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            flat = torch.frombuffer(bytearray(file.read(end - begin)), dtype=DTYPES[entry["dtype"]])
            yield name, flat.view(entry["shape"])


def load_quern(folder, dtype=None):
    """The model in a folder that `quern export` wrote, ready to run; dtype: the file's unless given."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        model = QuernForCausalLM(QuernConfig(**json.load(file)))
    index, files = os.path.join(folder, "model.safetensors.index.json"), ["model.safetensors"]
    if os.path.exists(index):
        with open(index, encoding="utf-8") as file:
            files = sorted(set(json.load(file)["weight_map"].values()))
    weights = {}
    for name in files:
        weights.update(read_safetensors(os.path.join(folder, name)))
    model.to(dtype or next(iter(weights.values())).dtype)
    model.load_state_dict(weights)
    return model.eval()
