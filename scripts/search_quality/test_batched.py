"""Batched training of M models gives what M separate trainings in plain PyTorch give."""
from __future__ import annotations
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
import numpy as np, pytest, torch, torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch.func import functional_call
from batched import BatchedModel, BatchedTraining, Shape
from layout import Layout

CHOICES = {"A": ["none", "constant", "vector", "lora:2", "lora:4", "wegeft:2", "wegeft:3"], "B": ["none", "constant", "vector", "lora:2", "lora:3"],
  "C": ["none", "vector", "lora:2"], "D": ["none", "constant", "vector"], "E": ["none", "constant", "vector"]}
NORMS = {"A": ["none", "vector"], "E": ["none", "vector"]}
STEPS, BATCH, CLASSES = 6, 5, 4

def backbone():
    torch.manual_seed(0)
    m = VisionTransformer(img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=2, num_classes=0).double().eval()
    for p in m.parameters(): p.data += 0.1 * torch.randn_like(p)
    return m

def part_values(layout, row, mask):
    out = {}
    for stack in layout.stacks:
        for part, seg in stack.segments.items():
            n = int(np.prod(seg.shape)); sl = slice(seg.offset, seg.offset + n)
            for i, name in enumerate(stack.names):
                out[name, part] = (row[sl].view(seg.shape)[i].clone(), mask[sl].view(seg.shape)[i].clone().double())
    return out

def train_alone(layout, start, code, lrs, decay, smooth, total, warmup, order, images, labels):
    """Its own loop: parameters cut to the choice, W formed entry by entry as the equations say."""
    model = backbone(); sd = {k: v.detach() for k, v in model.state_dict().items()}
    mask = layout.mask(torch.tensor(code)[None])[0]
    vals = part_values(layout, start, mask)
    leaves = {k: v.clone().requires_grad_() for k, (v, m) in vals.items() if m.any()}
    masks = {k: m for k, (v, m) in vals.items()}
    def eff(k): return leaves[k] * masks[k] if k in leaves else None
    fac = [v for (n, p), v in leaves.items() if n != "head" and p.split(".")[1] not in ("vector", "constant")]
    vec = [v for (n, p), v in leaves.items() if n != "head" and p.split(".")[1] in ("vector", "constant")]
    hd = [v for (n, p), v in leaves.items() if n == "head"]
    groups = [{"params": g, "peak": l} for g, l in zip((fac, vec, hd), lrs) if g]
    opt = torch.optim.AdamW(groups, weight_decay=decay)
    for t in range(total):
        f = (t + 1) / (warmup + 1) if t < warmup else 0.5 * (1 + np.cos(np.pi * (t - warmup) / max(1, total - warmup)))
        for g in opt.param_groups: g["lr"] = g["peak"] * f
        new = dict(sd)
        for stack in layout.stacks:
            for name in stack.names:
                if name == "head": continue
                W0, b0 = sd[name + ".weight"], sd[name + ".bias"]; W, b = W0, b0
                get = lambda p: eff((name, p))
                if stack.kind == "norm":
                    if get("A.vector") is not None: W = W + W0 * get("A.vector")
                    if get("E.vector") is not None: b = b + get("E.vector")
                else:
                    if get("A.down") is not None: W = W + W0 * (get("A.down") @ get("A.up"))
                    if get("A.vector") is not None: W = W + W0 * get("A.vector")[:, None]
                    if get("A.constant") is not None: W = W + W0 * get("A.constant")
                    if get("A.phi") is not None: W = W + W0 @ get("A.phi") @ get("A.psi")
                    if get("B.down") is not None: W = W + get("B.down") @ get("B.up")
                    if get("B.vector") is not None: W = W + get("B.vector")[:, None]
                    if get("B.constant") is not None: W = W + get("B.constant")
                    if get("D.vector") is not None: b = b + b0 * get("D.vector")
                    if get("D.constant") is not None: b = b + b0 * get("D.constant")
                    if get("E.vector") is not None: b = b + get("E.vector")
                    if get("E.constant") is not None: b = b + get("E.constant")
                    if get("C.vector") is not None: b = b + W0 @ get("C.vector")
                    if get("C.down") is not None: b = b + W0 @ (get("C.down") @ get("C.up"))[:, 0]
                new[name + ".weight"], new[name + ".bias"] = W, b
        x = images[order[t]]
        z = functional_call(model, new, (x,)) @ eff(("head", "head.weight")).T + eff(("head", "head.bias"))
        loss = F.cross_entropy(z, labels[order[t]], label_smoothing=smooth)
        opt.zero_grad(); loss.backward()
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), 1.0); opt.step()
    row = start.clone()
    for stack in layout.stacks:
        for part, seg in stack.segments.items():
            n = int(np.prod(seg.shape)); view = row[seg.offset: seg.offset + n].view(seg.shape)
            for i, name in enumerate(stack.names):
                if (name, part) in leaves:
                    m = masks[name, part].bool(); view[i][m] = leaves[name, part].detach()[m]
    return row, mask.bool()

@pytest.mark.parametrize("compiled", [False, True])
def test_side_by_side(compiled):
    rng = np.random.default_rng(0); g = torch.Generator().manual_seed(1)
    model = backbone(); layout = Layout(model, CHOICES, classes=CLASSES, head_in=12, norm_choices=NORMS)
    M = 7
    codes = np.stack([[rng.integers(len(layout.options(i))) for i in range(len(layout.genes))] for _ in range(M)])
    codes[0] = 0
    start = torch.stack([layout.start(g) for _ in range(M)])
    for stack in layout.stacks:  # no zeros at the start, so that every gradient counts
        for seg in stack.segments.values():
            n = int(np.prod(seg.shape))
            if not seg.bound: start[:, seg.offset: seg.offset + n] = 0.1 * torch.randn(M, n, dtype=torch.float64, generator=g)
    images = torch.randn(20, 3, 8, 8, dtype=torch.float64, generator=g); labels = torch.randint(CLASSES, (20,), generator=g)
    lrs = torch.tensor(rng.uniform(1e-3, 1e-2, (M, 3))); decay = torch.tensor(rng.uniform(0, .1, M)); smooth = torch.tensor(rng.uniform(0, .2, M))
    total = torch.tensor([6, 6, 5, 4, 6, 3, 6]); warm = torch.tensor([2., 0, 1, 2, 3, 1, 2])
    order = torch.tensor(rng.integers(0, 20, (STEPS, M, BATCH)))
    bm = BatchedModel(model, layout, dtype=torch.float64)
    bt = BatchedTraining(bm, Shape(M, batch=BATCH, steps=STEPS), images, F.one_hot(labels, CLASSES).double(), device="cpu", dtype=torch.float64, compiled=compiled)
    bt.load(start=start, codes=torch.tensor(codes), rates=lrs, image_order=order, steps=total.double(), warmup=warm, decay=decay, smoothing=smooth)
    bt.run()
    for m in range(M):
        row, mask = train_alone(layout, start[m], codes[m], lrs[m].tolist(), decay[m].item(), smooth[m].item(), int(total[m]), int(warm[m]), order[:, m], images, labels)
        got = bt.theta.detach()[m]
        assert (row[mask] - start[m][mask]).abs().max() > 1e-4
        torch.testing.assert_close(got[mask], row[mask], rtol=1e-8, atol=1e-10)
