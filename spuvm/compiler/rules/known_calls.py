"""Calls recognised by what they compute, lowered as one function instead of by their parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from spuvm.compiler import arith, exponential, hypergeometric, integrals, order, sinc, whole
from spuvm.compiler.alignment import LAYOUT, places_of
from spuvm.compiler.calls import body_of
from spuvm.compiler.context import Lowering, Secret
from spuvm.compiler.facts import LogAddExp, root
from spuvm.compiler.lower import lower_closed, lower_jaxpr
from spuvm.compiler.numeric import sigmoid
from spuvm.compiler.refused import instead_of_call
from spuvm.compiler.rules import RULES, Out, bessel, correlation, entropy, expm, missing
from spuvm.compiler.rules.integer import mantissa_and_exponent
from spuvm.compiler.rules.special import MORE_BITS, in_place
from spuvm.compiler.series import is_finer
from spuvm.compiler.values import Value, lift, public, wrap_int
from spuvm.errors import CompileError

# The equations of jnp.logaddexp(x, y), x and y being values 0 and 1.
LOGADDEXP = (
    ("max", 0, 1),
    ("sub", 0, 1),
    ("ne", 3, 3),
    ("add", 0, 1),
    ("abs", 3),
    ("neg", 6),
    ("exp", 7),
    ("log1p", 8),
    ("add", 2, 9),
    ("select_n", 4, 10, 5),
)


def known(
    low: Lowering, out: list[Out], jaxpr: Any, args: Sequence[Value], name: str
) -> list[Value] | None:
    """The results of a call to a function that is known, else None."""
    consts = getattr(jaxpr, "consts", ())
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    if name == "_truncated_normal" and "jax/_src/random" in jaxpr.debug_info.func_src_info:
        return lower_jaxpr(low, _without_neighbours(jaxpr), consts, args)
    if is_finer(jaxpr):
        return _with_more_bits(low, jaxpr, consts, args)
    made = expm.backward(low, out, jaxpr, consts, args)
    if made is not None:
        return made
    if name == "corrcoef" and not consts and _numpy_name(jaxpr) == name:
        return correlation.corrcoef(low, jaxpr, args)
    special = _special(jaxpr)
    if special == "sinc":
        if not sinc.is_known(jaxpr):
            low.warn(
                "second derivatives of sinc lose their digits where |x| is below about 0.1; JAX "
                "0.12 has forms that keep them"
            )
        return lower_jaxpr(low, sinc.repaired(jaxpr, low.f), consts, args)
    if special in ("_rel_entr", "_rel_entr_jvp"):
        return entropy.relative(low, jaxpr, consts, args, special == "_rel_entr_jvp")
    with missing.aside(low, args):
        made = _of_elements(low, out, jaxpr, args, name)
    return None if made is None else _left_out(low, out, jaxpr, args, made)


def _left_out(
    low: Lowering, out: list[Out], jaxpr: Any, args: Sequence[Value], made: list[Value]
) -> list[Value]:
    """Results of a function of elements, missing where one of its operands is."""
    if not any(isinstance(v, Secret) and v.id in low.missing for v in args):
        return made
    name = _special(jaxpr)
    if name in ("bessel_jn", "hyp2f1"):  # of several orders; not NaN there
        missing.lost(low, args)
        return made
    if name in integrals.FUNCTIONS or name == "expi":  # others are coefficients
        return list(missing.of_elements(low, out, args[-1:], [None], made))
    places = places_of(jaxpr, out[0].shape)
    return list(missing.of_elements(low, out, args, places, made))


def _of_elements(
    low: Lowering, out: list[Out], jaxpr: Any, args: Sequence[Value], name: str
) -> list[Value] | None:
    """The results of a known function of one element of each operand, else None."""
    if name in BY_NAME and _is_jax_own(jaxpr, name):
        return _by_name(low, out, jaxpr, args, name)
    instead = instead_of_call(jaxpr)
    if instead is not None:
        raise CompileError(f"{name.strip('_')} of a secret has no form here", next=instead)
    name = _special(jaxpr)
    if name in integrals.FUNCTIONS and isinstance(args[-1], Secret):
        function = integrals.FUNCTIONS[name]
        x = _as_float(low, out[0], args[-1])
        return in_place(low, lambda v, sign: function(v, low.config.fxp, sign), x)
    if name == "expi":
        x = _as_float(low, out[0], args[-1])
        return in_place(low, lambda v, sign: exponential.expi(v, low.config.fxp, sign), x)
    if (
        name in ("expn", "_expn") and len(args) == 2
    ):  # not around it, where the order is not an operand
        return _expn(low, out[0], *entropy.beside(low, jaxpr, args, out[0]))
    if name in hypergeometric.FUNCTIONS:
        return _hypergeometric(low, name, out[0], entropy.beside(low, jaxpr, args, out[0]))
    if name in HYPERGEOMETRIC_SLOPES:
        raise CompileError(
            f"the derivative of {name[1:7]} by a parameter has no form for secrets",
            next="differentiate by x alone: give the parameters as public numbers",
        )
    if name == "poch":
        return _rising(low, out[0], jaxpr, args)
    if name in entropy.LOGARITHMS:
        return entropy.times_logarithm(low, name, out[0], jaxpr, args)
    if name == "_hypot":
        return _in_floats(low, out, _hypot, args)
    if name == "logit":  # of x / (1 - x) few digits would be left for a small x
        return _in_floats(low, out, lambda p: jnp.log(p) - jnp.log1p(-p), args)
    if name == "exp_neg_sq":  # JAX 0.12 has the derivative of erf of it
        x = _as_float(low, out[0], args[0])
        square = RULES["square"](low, out, x)
        return [RULES["exp"](low, out, RULES["neg"](low, out, square))]
    if name == "bessel_jn":
        return bessel.bessel_jn(low, out, jaxpr, args)
    if len(jaxpr.eqns) == len(LOGADDEXP) and _wiring(jaxpr) == LOGADDEXP:
        return [_logaddexp(low, out[0], *args)]
    return None


def _with_more_bits(low: Lowering, jaxpr: Any, consts: Any, args: Sequence[Value]) -> list[Value]:
    """The parts of a function of the compiler's own that need it."""
    with low.finer(MORE_BITS, "small"):
        return lower_jaxpr(low, jaxpr, consts, args)


def _as_float(low: Lowering, o: Out, x: Value) -> Secret:
    """An operand that such a function would convert itself."""
    from spuvm.compiler.rules.elementwise import convert

    assert isinstance(x, Secret)
    if x.dtype == o.dtype:
        return x
    made = convert(low, [Out(low.shape(x.id), o.dtype)], x)
    assert isinstance(made, Secret)
    return made


def _without_neighbours(jaxpr: Any) -> Any:
    """Samples between two bounds may equal them: fixed point has no float next to a bound."""
    names: dict[Any, Any] = {}
    kept = []
    for eqn in jaxpr.eqns:
        given = [a if isinstance(a, core.Literal) else names.get(a, a) for a in eqn.invars]
        if eqn.primitive.name == "nextafter":
            names[eqn.outvars[0]] = given[0]
        else:
            kept.append(eqn.replace(invars=given))
    return jaxpr.replace(eqns=kept)


_FILES = r"(\w+) at .*jax._src.*(?:scipy.special|lax.erf|numpy.ufuncs)\.py"


def _special(jaxpr: Any) -> str:
    """The name under which one of JAX's files of special functions defines what was traced."""
    m = re.match(_FILES, jaxpr.debug_info.func_src_info)
    return m[1] if m else ""


def _in_floats(
    low: Lowering, out: Sequence[Out], function: Callable[..., Any], args: Sequence[Value]
) -> list[Value]:
    """A JAX function of operands that have the shape and dtype of the first result."""
    shape = jax.ShapeDtypeStruct(out[0].shape, out[0].dtype)
    with low.one_line():
        return lower_closed(low, jax.make_jaxpr(function)(*(shape for _ in args)), args)


def _hypot(x: Any, y: Any) -> Any:
    """r = sqrt(x^2 + y^2), x / r and y / r, without squares of large numbers."""
    large = jnp.maximum(jnp.abs(x), jnp.abs(y))
    some = jnp.where(large == 0, 1, large)
    part = jnp.minimum(jnp.abs(x), jnp.abs(y)) / some
    r = large * jnp.sqrt(1 + part * part)
    some = jnp.where(large == 0, 1, r)
    return r, x / some, y / some


def _expn(low: Lowering, o: Out, n: Value, x: Value) -> list[Value]:
    """Exponential integrals of public orders."""
    if isinstance(n, Secret) or not isinstance(x, Secret):
        raise CompileError(
            "expn of a secret order has no form for secrets",
            next="give orders as public integers",
        )
    orders = public(n)
    found = np.unique(orders)
    if (found != np.floor(found)).any() or found.min(initial=0) < 0:
        raise CompileError(
            "expn has whole orders from 0 on", got=", ".join(f"{v:g}" for v in found[:4])
        )

    def function(v: Any, _: str) -> Any:
        made = exponential.expn(v, int(found[0]), low.config.fxp)
        for k in found[1:]:
            made = jnp.where(orders == k, exponential.expn(v, int(k), low.config.fxp), made)
        return jnp.broadcast_to(made, o.shape)

    return in_place(low, function, x)


HYPERGEOMETRIC_SLOPES = {
    f"_hyp{name}_{of}_derivative" for name, every in (("1f1", "ab"), ("2f1", "abc")) for of in every
}
MOST_PARAMETERS = 16  # sets of them in one call: each has a series of its own


def _hypergeometric(low: Lowering, name: str, o: Out, args: Sequence[Value]) -> list[Value]:
    """1F1 and 2F1 of public parameters."""
    *parameters, x = args
    if any(isinstance(v, Secret) for v in parameters) or not isinstance(x, Secret):
        raise CompileError(
            f"{name} of secret parameters has no form for secrets",
            next="give them as public numbers, or choose among a few calls with jnp.where",
        )
    given = np.stack([np.broadcast_to(public(v), o.shape) for v in parameters]).astype(np.float64)
    sets = np.unique(given.reshape(len(parameters), -1), axis=1).T
    if len(sets) > MOST_PARAMETERS:
        raise CompileError(
            f"{name} of {len(sets)} sets of parameters in one call",
            expected=f"at most {MOST_PARAMETERS}, each of which has a series of its own",
            next="call it once for each of a few",
        )
    function = hypergeometric.FUNCTIONS[name]

    def whole(v: Any, sign: str) -> Any:
        made = jnp.zeros(o.shape, o.dtype)
        for some in sets:
            one = function(v, *map(float, some), low.config.fxp, sign)
            here = np.all(given == some.reshape(-1, *(1 for _ in o.shape)), axis=0)
            made = jnp.where(here, one, made) if len(sets) > 1 else jnp.broadcast_to(one, o.shape)
        return made

    return in_place(low, whole, _as_float(low, o, x))


def _rising(low: Lowering, o: Out, jaxpr: Any, args: Sequence[Value]) -> list[Value]:
    """gamma(z + m) / gamma(z): the parts alone may be too large."""

    def function(z: Any, m: Any) -> Any:
        sign = jax.scipy.special.gammasgn(z + m) * jax.scipy.special.gammasgn(z)
        made = sign * jnp.exp(jax.lax.lgamma(z + m) - jax.lax.lgamma(z))
        return jnp.where(m == 0, 1.0, made)

    return entropy.in_parts(low, o, function, entropy.beside(low, jaxpr, args, o))


_NUMPY = r"(\w+) at .*jax._src.numpy.(?:ufuncs|lax_numpy)\.py"


def _numpy_name(jaxpr: Any) -> str | None:
    """The name of the function of jax.numpy whose body it is, or whose derivative's."""
    m = re.match(_NUMPY, jaxpr.debug_info.func_src_info)
    return m[1] if m else None


def _is_jax_own(jaxpr: Any, name: str) -> bool:
    """Whether the body is what JAX makes of its own function of this name, also inside of vmap."""
    if _numpy_name(jaxpr) != name:
        return False
    if name == "gcd":  # of integers there is no derivative; its loop is another one inside of vmap
        return True
    shapes = [jax.ShapeDtypeStruct((), v.aval.dtype) for v in jaxpr.invars]
    try:
        own = jax.make_jaxpr(getattr(jnp, name))(*shapes)
    except (TypeError, ValueError):  # other operands: a derivative
        return False
    body = own.jaxpr.eqns[0].params["jaxpr"].jaxpr
    return len(body.outvars) == len(jaxpr.outvars) and _steps(body) == _steps(jaxpr)


def _steps(jaxpr: Any) -> list[str]:
    """The primitives of a body and of those in it, without those that lay out arrays."""
    made: list[str] = []
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if eqn.primitive.name not in LAYOUT:
            body = body_of(eqn.params)
            made += [eqn.primitive.name, *(_steps(body) if body is not None else ())]
    return made


def _by_name(
    low: Lowering, out: list[Out], jaxpr: Any, args: Sequence[Value], name: str
) -> list[Value]:
    """One of BY_NAME, of operands and results whose axes vmap may have in any order."""
    if len(out) == 1:
        return BY_NAME[name](low, out, *entropy.beside(low, jaxpr, args, out[0]))
    (x,) = args
    assert isinstance(x, Secret)
    made = BY_NAME[name](low, [Out(low.shape(x.id), o.dtype) for o in out], x)
    results = []
    for i, (v, o) in enumerate(zip(made, out, strict=True)):
        (places,) = places_of(jaxpr, o.shape, i)
        results.append(v if places is None else Secret(low.take(v.id, places), o.dtype))
    return results


def _signbit(low: Lowering, out: list[Out], x: Value) -> list[Value]:
    """x < 0: fixed point has one zero."""
    (o,) = out
    assert isinstance(x, Secret)
    bit = order.negative(low, x.id) if x.dtype != np.bool_ else False
    return [np.full(o.shape, bit) if isinstance(bit, bool) else Secret(bit, o.dtype)]


def _ldexp(low: Lowering, out: list[Out], x: Value, n: Value) -> list[Value]:
    """x 2^n: a shift where n is public."""
    (o,) = out
    from spuvm.compiler.rules.elementwise import convert, mul
    from spuvm.compiler.rules.transcendental import exp2

    if isinstance(n, Secret):
        power: Value = exp2(low, [o], convert(low, [Out(low.shape(n.id), o.dtype)], n))
    else:
        power = np.exp2(public(n).astype(np.float64))
    number = _as_float(low, o, x) if isinstance(x, Secret) else x
    return [mul(low, [o], number, power)]


def _frexp(low: Lowering, out: list[Out], x: Value) -> list[Value]:
    """Mantissa and exponent: one product with the power of two that is missing."""
    number = _as_float(low, out[0], x)
    mantissa, exponent = mantissa_and_exponent(low, arith.settle(low, number.id))
    return [Secret(mantissa, out[0].dtype), Secret(exponent, out[1].dtype)]


def _gcd(low: Lowering, out: list[Out], x: Value, y: Value) -> list[Value]:
    """In a fixed number of steps, two per bit (compiler/whole.py)."""
    shape = jax.ShapeDtypeStruct(out[0].shape, out[0].dtype)
    closed = jax.make_jaxpr(whole.gcd)(shape, shape)
    ready = [
        Secret(low.spread(wrap_int(low, lift(low, v, shape.dtype).id, shape.dtype), shape.shape),
               shape.dtype) for v in (x, y)
    ]  # fmt: skip
    with low.one_line(), low.unchecked():
        return lower_closed(low, closed, ready)


BY_NAME: dict[str, Callable[..., list[Value]]] = {
    "signbit": _signbit,
    "ldexp": _ldexp,
    "frexp": _frexp,
    "gcd": _gcd,
}


def kept_whole(prim: Any) -> Callable[..., list[Value]] | None:
    """The form of a function that JAX does not open while it traces, if it is one of BY_NAME."""
    kind = type(prim)
    return BY_NAME.get(kind.__name__.lower()) if kind.__module__.startswith("jax.") else None


def _wiring(jaxpr: Any) -> tuple[tuple[Any, ...], ...] | None:
    """Per equation its primitive and the numbers of its operands; None if not only those."""
    numbers = {v: i for i, v in enumerate(jaxpr.invars)}
    rows = []
    for eqn in jaxpr.eqns:
        if any(isinstance(a, core.Literal) or a not in numbers for a in eqn.invars):
            return None
        rows.append((eqn.primitive.name, *(numbers[a] for a in eqn.invars)))
        for v in eqn.outvars:
            numbers[v] = len(numbers)
    last = jaxpr.eqns[-1].outvars
    return tuple(rows) if list(jaxpr.outvars) == list(last) else None


def _logaddexp(low: Lowering, o: Out, x: Value, y: Value) -> Value:
    """log(e^x + e^y) = y + softplus(x - y); the difference is remembered for the derivative."""
    a, b = (_operand(low, v, o) for v in (x, y))
    with low.unchecked():
        if a is None or b is None:
            value = b if a is None else a
            assert value is not None
            difference = value if b is None else arith.neg(low, value)
            made = sigmoid.softplus(low, value)
        else:
            difference = arith.sub(low, a, b)
            made = arith.add(low, sigmoid.softplus(low, difference), b)
    low.facts[root(low, made)] = LogAddExp(a, b, difference)
    return Secret(made, o.dtype)


def _operand(low: Lowering, value: Value, o: Out) -> int | None:
    """A secret operand, settled; a public one as shares, or None if it is 0."""
    if not isinstance(value, Secret):
        if not public(value).any():
            return None
        value = lift(low, np.broadcast_to(public(value), o.shape), o.dtype)
    return arith.settle(low, low.spread(value.id, o.shape))
