"""Holds exported models against what quern computed: one process for all folders that are named.

Each has `model/`, an export, and `expected.safetensors`: ids, segment_ids, logits, loss, and gradients by the names of
the export. Prints one JSON object a folder.
"""

import importlib
import json
import math
import os
import struct
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(0)
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32}


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]])
        tensors[name] = flat.view(entry["shape"])
    return tensors


def standard_logits(folder, ids):
    """Llama, Qwen2 and Qwen3 as their papers have them, by the names of transformers."""
    with open(os.path.join(folder, "config.json")) as file:
        c = json.load(file)
    files = ["model.safetensors"]
    if os.path.exists(os.path.join(folder, "model.safetensors.index.json")):
        with open(os.path.join(folder, "model.safetensors.index.json")) as file:
            files = sorted(set(json.load(file)["weight_map"].values()))
    w = {}
    for name in files:
        w.update(read(os.path.join(folder, name)))
    heads, shared, width = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    assert (c["model_type"] == "qwen2") == ("model.layers.0.self_attn.q_proj.bias" in w)
    norm = lambda x, gain: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c["rms_norm_eps"]) * gain
    time = ids.shape[1]
    angles = torch.outer(torch.arange(time), c["rope_theta"] ** -(torch.arange(0, width, 2) / width))
    cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))
    turn = lambda x: x * cos + torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1) * sin
    x = w["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        y = norm(x, w[at + "input_layernorm.weight"])

        def projected(name, count):
            bias = w.get(f"{at}self_attn.{name}_proj.bias")
            z = F.linear(y, w[f"{at}self_attn.{name}_proj.weight"], bias)
            return z.view(*ids.shape, count, width).transpose(1, 2)

        q, k, v = projected("q", heads), projected("k", shared), projected("v", shared)
        if c["model_type"] == "qwen3":
            q, k = norm(q, w[at + "self_attn.q_norm.weight"]), norm(k, w[at + "self_attn.k_norm.weight"])
        q, k = turn(q), turn(k).repeat_interleave(heads // shared, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width)
        weights = scores.masked_fill(torch.ones(time, time).triu(1).bool(), -math.inf).softmax(-1)
        seen = (weights @ v.repeat_interleave(heads // shared, 1)).transpose(1, 2).flatten(2)
        x = x + F.linear(seen, w[at + "self_attn.o_proj.weight"])
        y = norm(x, w[at + "post_attention_layernorm.weight"])
        units = F.silu(F.linear(y, w[at + "mlp.gate_proj.weight"])) * F.linear(y, w[at + "mlp.up_proj.weight"])
        x = x + F.linear(units, w[at + "mlp.down_proj.weight"])
    head = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
    return F.linear(norm(x, w["model.norm.weight"]), w[head])


def apart(a, b):
    return (a.double() - b.double()).abs().max().item()


for folder in sys.argv[1:]:
    model_folder = os.path.join(folder, "model")
    expected = read(os.path.join(folder, "expected.safetensors"))
    ids = expected["ids"].long()
    if not os.path.exists(os.path.join(model_folder, "modeling_quern.py")):
        result = {"logits": apart(standard_logits(model_folder, ids), expected["logits"])}
        print(json.dumps({"folder": folder, **result}))
        continue
    for name in ("modeling_quern", "configuration_quern"):
        sys.modules.pop(name, None)
    sys.path.insert(0, model_folder)
    module = importlib.import_module("modeling_quern")
    sys.path.pop(0)
    model = module.load_quern(model_folder)
    assert all(p.dim() > 0 for p in model.parameters()), "FSDP shards no parameter without an axis"
    segments = expected["segment_ids"].long()
    with torch.no_grad():
        logits = model(ids, segment_ids=segments).logits
        # the first document of the first row alone, behind padding: nothing of the rest may show
        own = int((segments[0] == segments[0, 0]).sum())
        padded = F.pad(ids[:1, :own], (3, 0))
        mask = F.pad(torch.ones(1, own, dtype=torch.long), (3, 0))
        alone = model(padded, attention_mask=mask).logits[:, 3:]
    model.train()
    # a label is said by the token before it
    labels = F.pad(torch.where(expected["targets"] < 0, -100, expected["targets"].long()), (1, 0), value=-100)[:, :-1]
    losses = []
    for checkpointing in (False, True):
        model.gradient_checkpointing = checkpointing
        model.zero_grad()
        loss = model(ids, segment_ids=segments, labels=labels).loss
        loss.backward()
        losses.append(loss.item())
    slope = lambda p: torch.zeros_like(p) if p.grad is None else p.grad  # of what nothing reads
    gradients = {
        name: apart(slope(p), expected["grad." + name]) / max(1e-3, expected["grad." + name].abs().max().item())
        for name, p in model.named_parameters()
        if "grad." + name in expected
    }
    worst = max(gradients, key=gradients.get)
    result = {
        "logits": apart(logits, expected["logits"]),
        "alone": apart(alone, logits[:1, :own]),
        "loss": max(abs(loss - expected["loss"].item()) for loss in losses),
        "gradients": len(gradients),
        "worst": [worst, gradients[worst]],
    }
    print(json.dumps({"folder": folder, **result}))
