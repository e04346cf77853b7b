"""Crossings with a HEU: PYU to and from ciphertexts, ciphertexts to and from an SPU's shares.

Between HEU and SPU no party sees the value: one of two holds it plus a mask that covers every bit
and 40 more. With |v| <= b and r uniform below 2^(bits of b + 41), the distributions of v + r for
two values differ by at most 2^-40; those of n numbers by at most n times as much.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spuvm.bytecode.builder import Builder
from spuvm.bytecode.program import Program
from spuvm.bytecode.types import Type
from spuvm.compiler import CompileConfig
from spuvm.compiler.sums import dividing
from spuvm.devices.base import Device, DeviceObject
from spuvm.devices.calls import Slot
from spuvm.devices.compiling import secret
from spuvm.devices.crossings import RingDealer, RingJoiner, widest_type
from spuvm.devices.heu import HEU
from spuvm.devices.heuobject import HEUObject
from spuvm.devices.pyu import PYU, PYUObject
from spuvm.devices.spu import SPU, SPUObject
from spuvm.devices.structure import ArraySpec, Shared
from spuvm.errors import UsageError
from spuvm.fxp import Fxp
from spuvm.paillier.masking import STATISTICAL_BITS

RING = 64
LIMB = RING - 2 - STATISTICAL_BITS - 3  # bits of a piece: with mask and sign it stays below 2^62


def move_ciphertexts(x: DeviceObject, device: Device) -> Any:
    """Any move from or to a HEU."""
    if isinstance(x, PYUObject) and isinstance(device, HEU):
        return device.receive(x)
    if isinstance(x, HEUObject) and isinstance(device, PYU):
        return x.to_party(device.party)
    if isinstance(x, HEUObject) and isinstance(device, SPU):
        return to_spu(x, device)
    if isinstance(x, SPUObject) and isinstance(device, HEU):
        return to_heu(x, device)
    raise UsageError("no way between these devices", got=f"{x!r} to {device!r}")


def to_spu(x: HEUObject, spu: SPU) -> SPUObject:
    """Enc(v) at an evaluator -> [v]_A, v at scale s truncated to the SPU's fraction bits f.

    Local:    the evaluator draws r and forms Enc(v + r), packed; the key holder decrypts v + r;
              d = s - f; summands  (v + r) >> d  of the key holder and  -(r >> d)  of the evaluator,
              as integers, then modulo 2^64
    Sends:    evaluator -> key holder: Enc(v + r), re-randomised; both deal their summand to the SPU
    Requires: |v| >> d < 2^62, by the tracked bound, so that nothing wraps
    Error:    exact for d = 0; otherwise one unit, up with the probability of the dropped fraction
    Opens:    v + r to the key holder: r is uniform and covers the bound and 40 bits more
    Security: semi-honest; evaluator and key holder do not collude; statistical distance 2^-40
    Ref:      the masked decryption of Cramer, Damgård, Nielsen 2001 (eprint 2000/055, section 4)
    """
    heu = x.device
    if x.kind == "plain" or x.party == heu.sk_keeper:
        held: SPUObject = x.to_own_party().to(spu)
        return held
    _check_ring(spu)
    frac = spu.fxp.frac_bits
    shape, scale, bound = x.facts()
    if 0 < scale < frac:
        x = x.rescaled(frac)
        bound, scale = bound << (frac - scale), frac
    drop = max(0, scale - frac)
    limit = (bound >> drop) + bool(drop)  # rounding may go up
    if limit >= 1 << (RING - 2):
        raise UsageError(
            "ciphertexts whose values may not fit into the SPU",
            got=f"up to {limit.bit_length()} bits at {frac} fraction bits",
            expected=f"at most {RING - 2} bits",
            next="declare sf.HEU(..., input_range=(lo, hi)): products then have a smaller bound",
        )
    mask = heu.fresh_mask()
    sealed = heu.ask(x.party, "masked", x.name, mask, Slot(0), refs=[x.ref])
    shown = heu.carry(sealed, heu.sk_keeper)
    first = heu.ask(heu.sk_keeper, "share_of_masked", Slot(0), drop, refs=[shown])
    second = heu.ask(x.party, "share_of_mask", mask, drop, Slot(0), refs=[sealed])
    parts = []
    for party, ref in ((heu.sk_keeper, first), (x.party, second)):
        dealer = RingDealer(spu.fxp.ring, spu.rank(party))
        whose = replace(ref, origins=x.origins)
        parts.append(spu.take_from(party, f"sharing {x.name}", dealer, whose))
    spec = ArraySpec(shape, _dtype(scale, bound))
    leaf_frac = frac if scale else 0
    program = _sum_program(spu.fxp, spec, leaf_frac, limit, x.origins)
    stored = spu.run(program, [f"{part.name}.0" for part in parts], "from ciphertexts")
    lo, hi = -limit / (1 << leaf_frac), limit / (1 << leaf_frac)
    return SPUObject(stored, (Shared(spec, leaf_frac, 0, x.origins, lo, hi),), spec)


def to_heu(x: SPUObject, heu: HEU) -> HEUObject:
    """[v]_A -> Enc(v) at the first evaluator; exact.

    Local:    the SPU cuts v = sum_j v_j 2^(19 j): v_j = u_j - 2^19 u_(j+1), u_(j+1) = u_j / 2^19
              rounded either way, so that |v_j| <= 2^19; one piece when the range proves |v| < 2^19.
              The key holder draws r_j uniform below 2^61 and deals them; the SPU adds. The
              evaluator forms Enc(sum (v_j + r_j) 2^(19 j)) / Enc(sum r_j 2^(19 j))
    Sends:    key holder -> SPU: shares of r_j; SPU -> evaluator: additive parts of v_j + r_j;
              key holder -> evaluator: Enc(sum r_j 2^(19 j)), fresh
    Requires: |v| < 2^62, which representable values keep to
    Error:    exact: -2^19 <= v_j + r_j < 2^61 + 2^19 does not wrap modulo 2^64, so the sums are
              equal as integers. (Adding encrypted shares instead would give v + w 2^64, with a
              number w of wraps that depends on the shares and that the key holder would see.)
    Opens:    v_j + r_j to the evaluator; |v_j| <= 2^19 and r_j < 2^61 uniform: within 2^-40
    Security: semi-honest; evaluator and key holder do not collude, one of the SPU's three corrupt
    """
    spu: SPU = x.device
    _check_ring(spu)
    x = x.replicated()
    leaf, bound = _one_array(x, spu.fxp)
    if leaf.divisor != 1:
        x, leaf = _divided(x, leaf)
    keeper, evaluator = heu.sk_keeper, heu.evaluators[0]
    count = 1
    while bound >> (LIMB * count):
        count += 1
    shifts = tuple(LIMB * j for j in range(count))
    limbs = heu.ask(keeper, "draw", count, leaf.spec.shape, LIMB + STATISTICAL_BITS + 2, refs=[])
    dealer = RingDealer(spu.fxp.ring, spu.rank(keeper))
    masks = spu.take_from(keeper, "masks for ciphertexts", dealer, replace(limbs, origins=()))
    program = _limb_program(spu.fxp, leaf, bound, count)
    inputs = [x.names[0], *(f"{masks.name}.{j}" for j in range(count))]
    stored = spu.run(program, inputs, "to ciphertexts")
    masked = tuple(Shared(leaf.spec, 0, 0, ()) for _ in range(count))
    opened = spu.open_to(
        SPUObject(stored, masked, [leaf.spec] * count), evaluator, RingJoiner(leaf.spec.shape)
    )
    sealed = heu.ask(keeper, "encrypt_integers", Slot(0), shifts, leaf.frac, refs=[limbs])
    return heu.start(
        evaluator, "subtract_encrypted", Slot(0), shifts, bound, Slot(1),
        refs=[opened, heu.carry(sealed, evaluator)], origins=leaf.origins,
    )  # fmt: skip


def _divided(x: SPUObject, leaf: Shared) -> tuple[SPUObject, Shared]:
    """A mean, of which the sum is shared, as a value like any other."""
    spu: SPU = x.device
    program = dividing(CompileConfig(spu.fxp.ring, spu.fxp), secret(leaf))
    slack = 1 + 2.0**-20  # of 1/n as the program has it
    lo, hi = (None if v is None else v * slack for v in (leaf.lo, leaf.hi))
    leaf = replace(leaf, divisor=1, lo=lo, hi=hi)
    return SPUObject(spu.run(program, x.names, x.stored.what), (leaf,), leaf.spec), leaf


def _sum_program(
    fxp: Fxp, spec: ArraySpec, frac: int, limit: int, origins: tuple[str, ...]
) -> Program:
    """The sum of two summands, each uniform modulo 2^64, that is known to keep to a range."""
    builder = Builder(fxp.ring, fxp)
    pieces = [builder.input(Type("a", spec.shape, frac), "+".join(origins)) for _ in range(2)]
    total = builder.emit("add_aa", *pieces)
    total = builder.emit("retype_a", total, frac=frac, range=(-limit, limit))
    builder.output(total, spec.dtype, "0", origins)
    return builder.build()


def _limb_program(fxp: Fxp, leaf: Shared, bound: int, count: int) -> Program:
    """v_j + r_j for the pieces v_j of a value; fraction bits only name the digit here."""
    builder = Builder(fxp.ring, fxp)
    shape, top = leaf.spec.shape, LIMB * (count - 1)
    frac = [top - LIMB * j for j in range(count)]
    origin = "+".join(leaf.origins)
    rest = builder.input(Type("a", shape, top, 0, -bound, bound), origin)
    limit = (1 << (LIMB + STATISTICAL_BITS + 2)) - 1
    masks = [builder.input(Type("a", shape, f, 0, 0, limit), "mask") for f in frac]
    outputs = []
    for j in range(count):
        if j + 1 < count:
            upper = builder.emit("trunc_a", rest, bits=LIMB)
            lifted = builder.emit("shl_a", upper, bits=LIMB, frac=frac[j])
            piece, rest = builder.emit("sub_aa", rest, lifted), upper
        else:
            piece = rest
        outputs.append(builder.emit("add_aa", piece, masks[j]))
    for j, value in enumerate(outputs):
        builder.output(value, leaf.spec.dtype, str(j), ())
    return builder.build()


def _one_array(x: SPUObject, fxp: Fxp) -> tuple[Shared, int]:
    """The only array of a value, and a bound of its encoded integers."""
    leaves, tree = x.structure()
    if len(leaves) != 1 or not isinstance(tree, ArraySpec):
        raise UsageError(
            "a HEU holds single arrays", got=f"a tree of {len(leaves)} arrays", next="move each"
        )
    (leaf,) = leaves
    ranged = leaf.lo is not None and leaf.hi is not None
    if leaf.width or (not leaf.frac and not ranged):
        raise UsageError(
            "only fractions, or integers of a known range, become ciphertexts",
            got=str(leaf.spec),
            next="convert on the SPU: x.astype(jnp.float32), or sf.assume_range(x, lo, hi)",
        )
    limit = (1 << (RING - 2)) - 1
    if ranged:
        largest = max(abs(leaf.lo or 0.0), abs(leaf.hi or 0.0))
        limit = min(limit, int(largest * (1 << leaf.frac)) + 1)
    return leaf, limit


def _dtype(scale: int, bound: int) -> str:
    if scale:
        return "float32"
    if bound < 1 << 31:
        return "int32"
    if widest_type() == 64:
        return "int64"
    raise UsageError(
        "64-bit integers while JAX's 64-bit types are off",
        got=f"integers of up to {bound.bit_length()} bits",
        next="declare sf.HEU(..., input_range=(lo, hi)) below 2^31, or "
        'jax.config.update("jax_enable_x64", True)',
    )


def _check_ring(spu: SPU) -> None:
    if spu.fxp.ring.bits != RING:
        raise UsageError(
            "ciphertexts cross to and from rings of 64 bits",
            got=f"ring of {spu.fxp.ring.bits} bits",
            next="sf.Config(ring=64)",
        )
