"""Expressions over named secrets: what jax.numpy, jax.lax, jax.nn and jax.scipy lower to, as users
write it. A line is compiled at once; adding a function is adding it to a line.

x y p u  floats [5]: any, any, positive, within (-1, 1)     n m  int32 [5]; m is never 0
X Z Y    floats [3, 4], [3, 4], [4, 2]; T [2, 3, 4]         N    int32 [3, 4]
S P      floats [3, 3], S with a dominant diagonal,         o    int32 [3], places 0 .. 2
         P symmetric and positive definite                  k j  int32, places 2 and 1
s t      one float; e E  none, [0] and [0, 3]               w v  uint8 and int8 [5]
I K L W  images and kernels in two dimensions and one       b d B c  Booleans [5], [5], [3, 4], one
h g      float16 and bfloat16 [5]                           Q    queries [1, 2, 3, 4]
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from jax import lax, nn

RNG = np.random.default_rng(5)


def grid(values: Any) -> Any:
    """Floats that every ring encodes exactly."""
    return np.float32(np.rint(np.asarray(values) * 256) / 256)


_ROOT = RNG.uniform(-1, 1, (3, 3))
SECRETS: dict[str, Any] = {
    "x": grid([1.25, -2.5, 0.0, 3.0, -0.75]),
    "y": grid([0.5, -2.5, 1.0, -1.25, 2.0]),
    "p": grid([0.5, 1.25, 2.0, 3.5, 0.75]),
    "u": grid([0.5, -0.25, 0.0, 0.875, -0.75]),
    "X": grid(RNG.uniform(-2, 2, (3, 4))),
    "Z": grid(RNG.uniform(-2, 2, (3, 4))),
    "Y": grid(RNG.uniform(-2, 2, (4, 2))),
    "T": grid(RNG.uniform(-2, 2, (2, 3, 4))),
    "Q": grid(RNG.uniform(-2, 2, (1, 2, 3, 4))),
    "S": grid(np.eye(3) * 2 + RNG.uniform(-0.5, 0.5, (3, 3))),
    "P": grid(_ROOT @ _ROOT.T + np.eye(3)),
    "s": np.float32(1.5),
    "t": np.float32(-0.5),
    "e": np.zeros(0, np.float32),
    "E": np.zeros((0, 3), np.float32),
    "n": np.int32([5, -3, 0, 7, 2]),
    "m": np.int32([2, -2, 3, 1, -7]),
    "N": np.int32(RNG.integers(-9, 9, (3, 4))),
    "o": np.int32([0, 2, 1]),
    "k": np.int32(2),
    "j": np.int32(1),
    "w": np.uint8([200, 3, 0, 255, 16]),
    "v": np.int8([-128, 3, 0, 127, 16]),
    "b": np.array([True, False, True, True, False]),
    "d": np.array([False, False, True, True, True]),
    "B": RNG.integers(0, 2, (3, 4)).astype(np.bool_),
    "c": np.bool_(True),
    "I": grid(RNG.uniform(-1, 1, (2, 5, 6, 2))),
    "K": grid(RNG.uniform(-1, 1, (3, 3, 2, 4))),
    "L": grid(RNG.uniform(-1, 1, (2, 8, 3))),
    "W": grid(RNG.uniform(-1, 1, (3, 3, 2))),
    "h": np.float16([1.5, -2, 0, 0.25, 3]),
    "g": np.asarray(jnp.bfloat16([1.5, -2, 0, 0.25, 3])),
}
NAMES = {
    "jax": jax, "jnp": jnp, "lax": lax, "nn": nn, "jsp": jsp, "np": np,
    "la": jnp.linalg, "fft": jnp.fft, "sp": jsp.special,
}  # fmt: skip

ACCEPTED = """
jnp.abs(x), jnp.absolute(n), jnp.abs(v), jnp.fabs(x), jnp.abs(w)
jnp.acos(u), jnp.acosh(p+1), jnp.arccos(u), jnp.arccosh(p+1)
jnp.add(x,y), jnp.add(n,m), jnp.add(w,w), jnp.add(v,v), jnp.add(b,d), jnp.add(x,n)
jnp.add(n,b)
jnp.all(b), jnp.all(B,axis=0), jnp.all(B,axis=1,keepdims=True), jnp.all(x)
jnp.any(B,axis=(0,1)), jnp.any(n)
jnp.allclose(x,y), jnp.isclose(x,y), jnp.allclose(x,x)
jnp.amax(X), jnp.amin(X,axis=1), jnp.max(X,axis=0,keepdims=True)
jnp.max(x,where=b,initial=-5.), jnp.min(N,axis=-1)
jnp.angle(x)
jnp.append(x,y), jnp.append(X,Z,axis=0)
jnp.apply_along_axis(lambda r: r-r.mean(),0,X)
jnp.apply_over_axes(jnp.sum,X,[0,1])
jnp.argmax(X), jnp.argmax(X,axis=1), jnp.argmin(X,axis=0,keepdims=True), jnp.argmax(n)
jnp.argmin(w), jnp.argmax(b)
jnp.argpartition(x,2)[2]
jnp.argsort(x), jnp.argsort(X,axis=0), jnp.argsort(n,descending=True), jnp.argsort(v)
jnp.argwhere(b,size=4), jnp.argwhere(B,size=5,fill_value=-1)
jnp.around(x,1), jnp.round(x), jnp.rint(x)
jnp.array(x), jnp.asarray(x), jnp.array([x[0],y[1]]), jnp.array([s,2.,t])
jnp.asarray(n,dtype=jnp.float32)
jnp.array_equal(x,y), jnp.array_equiv(x,x)
jnp.array_split(x,2), jnp.split(X,2,axis=1), jnp.hsplit(X,2), jnp.vsplit(X,3)
jnp.dsplit(T,2)
jnp.asin(u), jnp.asinh(x), jnp.atan(x), jnp.atanh(u), jnp.atan2(x,y)
jnp.astype(x,jnp.int32), jnp.astype(n,jnp.float32), jnp.astype(b,jnp.int8)
jnp.astype(n,jnp.uint8), jnp.astype(x,bool)
jnp.atleast_1d(s), jnp.atleast_2d(x), jnp.atleast_3d(X)
jnp.average(x), jnp.average(X,axis=0,weights=p[:3])
jnp.average(x,weights=p,returned=True)
jnp.bincount(n&3,length=5), jnp.bincount(n&3,weights=x,length=5)
jnp.bitwise_and(n,m), jnp.bitwise_or(w,3), jnp.bitwise_xor(v,w.astype(jnp.int8))
jnp.bitwise_not(n), jnp.bitwise_invert(w), jnp.bitwise_count(n)
jnp.bitwise_left_shift(n,2), jnp.bitwise_right_shift(n,1), jnp.left_shift(w,m&3)
jnp.right_shift(n,m&3), jnp.bitwise_left_shift(v,1)
jnp.block([[X,Z],[Z,X]])
jnp.broadcast_arrays(x,X[:,:1]), jnp.broadcast_to(s,(2,3))
jnp.cbrt(x), jnp.ceil(x), jnp.floor(x), jnp.trunc(x)
jnp.choose(o,[x[:3],y[:3],p[:3]],mode='clip')
jnp.clip(x,-1,1), jnp.clip(n,0,3), jnp.clip(x,y,p), jnp.clip(x,min=0), jnp.clip(x,max=s)
jnp.column_stack([x,y]), jnp.concat([x,y]), jnp.concatenate([x,n])
jnp.concatenate([b,n])
jnp.compress(b,x,size=3,fill_value=0)
jnp.conj(x), jnp.conjugate(n)
jnp.convolve(x,y), jnp.convolve(x,y[:2],mode='same'), jnp.convolve(n,m,mode='valid')
jnp.correlate(x,y[:3]), jnp.correlate(x,y,mode='full')
jnp.copy(x), jnp.copysign(x,y), jnp.copysign(p,-1.), jnp.copysign(x,0.5)
jnp.corrcoef(X)
jnp.cov(X), jnp.cov(x,y), jnp.cov(X,rowvar=False,bias=True)
jnp.cos(x), jnp.cosh(x), jnp.sin(x), jnp.sinh(x), jnp.tan(u), jnp.tanh(x)
jnp.count_nonzero(x), jnp.count_nonzero(B,axis=0), jnp.count_nonzero(n)
jnp.cross(X[:,:3],Z[:,:3]), la.cross(x[:3],y[:3])
jnp.cumprod(p), jnp.cumsum(X,axis=1), jnp.cumsum(n), jnp.cumsum(b)
jnp.cumulative_sum(x,include_initial=True), jnp.cumulative_prod(u), jnp.cumsum(w)
jnp.deg2rad(x*10), jnp.degrees(x), jnp.rad2deg(x), jnp.radians(x)
jnp.delete(x,2), jnp.delete(X,np.array([0,1]),axis=1)
jnp.delete(x,k,assume_unique_indices=True)
jnp.diag(x), jnp.diag(X), jnp.diag(X,1), jnp.diagflat(x), jnp.diagonal(X)
jnp.diagonal(T,axis1=1,axis2=2), jnp.trace(S), jnp.trace(T,axis1=1,axis2=2)
jnp.diff(x), jnp.diff(X,n=2,axis=1), jnp.ediff1d(x), jnp.diff(n)
jnp.digitize(x,np.array([-1.,0.,2.])), jnp.digitize(x,jnp.sort(y))
jnp.digitize(x,np.array([-1.,0.,2.]),right=True)
jnp.divide(x,p), jnp.true_divide(n,m), jnp.floor_divide(n,m), jnp.floor_divide(x,p)
jnp.divmod(n,m), jnp.divmod(x,p), jnp.floor_divide(w,w|1), jnp.floor_divide(v,3)
jnp.dot(X,Y), jnp.dot(x,y), jnp.dot(s,x), jnp.dot(n,m), jnp.dot(T,Y), jnp.dot(x,n)
jnp.dot(b,d), jnp.dot(w,w)
jnp.dstack([X,Z]), jnp.hstack([x,y]), jnp.vstack([x,y]), jnp.stack([X,Z],axis=1)
jnp.unstack(X), jnp.unstack(X,axis=1)
jnp.einsum('ij,jk->ik',X,Y), jnp.einsum('ij,ij',X,Z), jnp.einsum('ii->i',S)
jnp.einsum('ijk->ki',T), jnp.einsum('i,j->ij',x,y), jnp.einsum('bij,jk->bik',T,Y)
jnp.einsum('...j,j->...',T,x[:4])
jnp.zeros_like(x)+x, jnp.ones_like(x)*x, jnp.full_like(x,2.)+x, jnp.full_like(x,s)
jnp.full((2,2),s)
jnp.equal(x,y), jnp.not_equal(n,m), jnp.greater(x,y), jnp.greater_equal(w,16)
jnp.less(v,0), jnp.less_equal(b,d), jnp.equal(n,x), jnp.less(n,0.5)
jnp.exp(x), jnp.exp2(x), jnp.expm1(x), jnp.exp(n), jnp.exp(h), jnp.exp(g)
jnp.expand_dims(x,0), jnp.expand_dims(x,(0,2)), x[None], jnp.squeeze(X[None])
X[...,None]
jnp.extract(b,x,size=3), jnp.extract(b,x,size=5,fill_value=7)
jnp.fill_diagonal(S,0.,inplace=False), jnp.fill_diagonal(S,s,inplace=False)
jnp.fill_diagonal(S,x[:3],inplace=False)
jnp.flatnonzero(b,size=4), jnp.nonzero(x,size=5), jnp.nonzero(B,size=4,fill_value=9)
jnp.where(b,size=3)
jnp.flip(X), jnp.fliplr(X), jnp.flipud(X), jnp.roll(x,2), jnp.roll(X,(1,2),(0,1))
jnp.rot90(X), jnp.rollaxis(T,2), jnp.moveaxis(T,0,2), jnp.swapaxes(T,0,1)
jnp.permute_dims(T,(2,0,1)), jnp.matrix_transpose(X)
jnp.roll(x,k), jnp.roll(X,k,axis=1)
jnp.float_power(p,2), jnp.float_power(p,x), jnp.power(p,y), jnp.power(n,2)
jnp.power(x,3), jnp.power(x,n&3), jnp.pow(x,2), jnp.power(w,2), jnp.power(2.,x)
jnp.power(n,m&3)
jnp.fmax(x,y), jnp.fmin(x,y), jnp.fmod(x,p), jnp.fmod(n,m), jnp.mod(x,p), jnp.mod(n,m)
jnp.remainder(x,-p), jnp.mod(v,7), jnp.remainder(w,w|1)
jnp.ldexp(x,3), jnp.ldexp(x,n)
jnp.fromfunction(lambda i,j: X[i.astype(int),j.astype(int)],(2,2))
jnp.geomspace(p[0],p[1],4)
jnp.linspace(s,t,5), jnp.linspace(x,y,3), jnp.logspace(u[0],u[1],3)
jnp.gradient(x), jnp.gradient(X), jnp.gradient(x,2.), jnp.gradient(x,jnp.cumsum(p))
jnp.heaviside(x,0.5), jnp.heaviside(x,y)
jnp.histogram(x,bins=4,range=(-3,3)), jnp.histogram(x,bins=np.array([-3.,0.,1.,3.]))
jnp.histogram(x,bins=4)
jnp.histogram(x,bins=3,range=(-3,3),weights=p)
jnp.histogram(x,bins=3,range=(-3,3),density=True)
jnp.histogram2d(x,y,bins=2,range=[(-3,3),(-3,3)])
jnp.histogram_bin_edges(x,bins=3)
jnp.histogramdd(X.T[:,:2],bins=2,range=[(-3,3),(-3,3)])
jnp.hypot(x,y)
jnp.identity(3)@S, jnp.eye(3)+S, jnp.tri(3)*S, jnp.tril(X), jnp.triu(X,1)
jnp.inner(x,y), jnp.outer(x,y), jnp.kron(X[:2,:2],Z[:2,:2]), jnp.vdot(X,Z)
jnp.vecdot(X,Z), jnp.matvec(X,x[:4]), jnp.vecmat(x[:3],X), jnp.tensordot(X,Y,1)
jnp.tensordot(T,X,axes=((1,2),(0,1))), jnp.matmul(T,Y)
jnp.insert(x,2,s), jnp.insert(X,1,x[:4],axis=0), jnp.insert(x,np.array([1,3]),y[:2])
jnp.interp(x,np.array([-3.,0.,1.,3.]),np.array([1.,0.,2.,5.]))
jnp.interp(x,np.array([-3.,0.,1.,3.]),y[:4])
jnp.interp(x,jnp.cumsum(p)-3,y)
jnp.intersect1d(n,m,size=3), jnp.intersect1d(n,m,size=3,fill_value=-9)
jnp.setdiff1d(n,m,size=4), jnp.setxor1d(n,m,size=8), jnp.union1d(n,m,size=9)
jnp.isin(n,m), jnp.isin(n,np.array([1,2,5])), jnp.isin(x,y,invert=True)
jnp.isfinite(x), jnp.isinf(x), jnp.isnan(x), jnp.isneginf(x), jnp.isposinf(x)
jnp.isreal(x), jnp.iscomplex(x), jnp.nan_to_num(x), jnp.isfinite(n)
jnp.ix_(o,np.array([0,1]))[0], X[jnp.ix_(np.array([0,1]),np.array([2,3]))]
jnp.lexsort((x,n)), jnp.lexsort((n,b))
jnp.log(p), jnp.log10(p), jnp.log1p(p), jnp.log2(p), jnp.logaddexp(x,y)
jnp.logaddexp2(x,y), jnp.log(m*m)
jnp.logical_and(b,d), jnp.logical_or(x,b), jnp.logical_not(n), jnp.logical_xor(b,n)
jnp.max(x), jnp.maximum(x,y), jnp.maximum(n,m), jnp.minimum(w,100), jnp.minimum(b,d)
jnp.maximum(x,n), jnp.minimum(x,0)
jnp.mean(X), jnp.mean(X,axis=1), jnp.mean(x,where=b), jnp.mean(n), jnp.mean(b)
jnp.mean(X,axis=(0,1),keepdims=True)
jnp.median(x), jnp.median(X,axis=0), jnp.median(X), jnp.median(n)
jnp.meshgrid(x,y), jnp.meshgrid(x,y,indexing='ij')
jnp.modf(x)
jnp.multiply(x,y), jnp.multiply(w,w), jnp.multiply(v,v), jnp.multiply(b,d)
jnp.multiply(x,b), jnp.multiply(n,m), jnp.multiply(n,x)
jnp.nanargmax(x), jnp.nanargmin(X,axis=1), jnp.nancumprod(u), jnp.nancumsum(x)
jnp.nanmax(x), jnp.nanmean(X,axis=0), jnp.nanmin(x), jnp.nanprod(u), jnp.nanstd(x)
jnp.nansum(X), jnp.nanvar(x)
jnp.nanmedian(x), jnp.nanpercentile(x,30), jnp.nanquantile(X,0.5,axis=0)
jnp.negative(x), jnp.negative(n), jnp.negative(w), jnp.negative(v), jnp.positive(x)
jnp.packbits(b), jnp.packbits(B,axis=1,bitorder='little'), jnp.unpackbits(w)
jnp.unpackbits(w,count=12)
jnp.pad(x,2), jnp.pad(X,((1,0),(0,2)),constant_values=3.), jnp.pad(x,2,mode='edge')
jnp.pad(x,2,mode='reflect'), jnp.pad(x,2,mode='wrap'), jnp.pad(x,3,mode='symmetric')
jnp.pad(x,(1,2),mode='linear_ramp'), jnp.pad(x,2,mode='mean')
jnp.pad(x,2,mode='maximum'), jnp.pad(x,2,mode='median'), jnp.pad(x,1,constant_values=s)
jnp.partition(x,2)[2], jnp.sort(jnp.partition(x,2)[:2])
jnp.percentile(x,30), jnp.percentile(X,jnp.array([10,50]),axis=1), jnp.quantile(x,0.7)
jnp.quantile(x,jnp.array([.1,.9])), jnp.quantile(x,0.4,method='lower')
jnp.quantile(x,0.4,method='higher'), jnp.quantile(x,0.4,method='nearest')
jnp.quantile(x,0.4,method='midpoint')
jnp.quantile(x,(u[0]+1)/2)
jnp.piecewise(x,[x<0,x>=1],[lambda z:-z,lambda z:z*2,0.5])
jnp.place(x,b,y,inplace=False), jnp.put(x,np.array([0,2]),s,inplace=False)
jnp.put(x,o,y[:3],inplace=False)
jnp.put_along_axis(X,jnp.argmax(X,axis=1,keepdims=True),9.,axis=1,inplace=False)
jnp.poly(x[:3])
jnp.polyadd(x,y[:3]), jnp.polyder(x), jnp.polyint(x), jnp.polymul(x,y), jnp.polysub(x,y)
jnp.polyval(x,p), jnp.polyval(x,2.)
jnp.polydiv(x,np.array([1.,2.]))
jnp.polyfit(np.arange(5.),x,1)
jnp.polyfit(p,x,1)
jnp.prod(u), jnp.prod(X,axis=0), jnp.prod(n), jnp.prod(b), jnp.prod(w)
jnp.ptp(x), jnp.ptp(X,axis=1), jnp.ptp(n)
jnp.ravel(X), jnp.ravel(X,order='F'), jnp.reshape(X,(4,3)), jnp.reshape(X,-1,order='F')
jnp.resize(x,(7,)), jnp.resize(x,(2,2))
jnp.ravel_multi_index((o,o),(3,3),mode='clip'), jnp.unravel_index(n&3,(2,3))
jnp.ravel_multi_index((o,o),(3,3),mode='wrap')
jnp.real(x), jnp.imag(x), jnp.reciprocal(p), jnp.reciprocal(m)
jnp.repeat(x,2), jnp.repeat(X,2,axis=1), jnp.repeat(x,np.array([1,0,2,1,1]))
jnp.tile(x,(2,2)), jnp.repeat(x,n&3,total_repeat_length=7)
jnp.searchsorted(np.array([-1.,0.,2.]),x), jnp.searchsorted(jnp.sort(x),y)
jnp.searchsorted(jnp.sort(x),y,side='right'), jnp.searchsorted(jnp.sort(n),m)
jnp.searchsorted(jnp.sort(x),y,method='sort')
jnp.searchsorted(jnp.sort(x),y,method='compare_all'), jnp.searchsorted(jnp.sort(x),s)
jnp.searchsorted(jnp.sort(x),y,method='scan_unrolled')
jnp.select([b,d],[x,y],default=1.), jnp.select([x<0,x>1],[n,m],0)
jnp.sign(x), jnp.sign(n), jnp.sign(w), jnp.signbit(x), jnp.sinc(x), jnp.signbit(n)
jnp.size(x)*s, jnp.shape(x)[0]*s, jnp.ndim(X)*s
jnp.sort(x), jnp.sort(X,axis=0), jnp.sort(x,descending=True), jnp.sort(n), jnp.sort(b)
jnp.sort(w), jnp.sort(X,axis=None)
jnp.sqrt(p), jnp.square(x), jnp.square(n), jnp.sqrt(w)
jnp.std(x), jnp.std(X,axis=0,ddof=1), jnp.var(x), jnp.var(X,axis=1), jnp.var(n)
jnp.var(x,where=b), jnp.std(X,correction=1)
jnp.subtract(x,y), jnp.subtract(w,w), jnp.subtract(n,m), jnp.subtract(v,v)
jnp.sum(X), jnp.sum(x,where=b), jnp.sum(n), jnp.sum(b), jnp.sum(w)
jnp.sum(X,axis=(0,1),keepdims=True), jnp.sum(v), jnp.sum(x,initial=5.)
jnp.sum(n,dtype=jnp.float32), jnp.sum(h)
jnp.take(x,np.array([0,3])), jnp.take(x,o), jnp.take(X,o,axis=1), jnp.take(x,n)
jnp.take(x,o,mode='wrap'), jnp.take(x,n,mode='clip')
jnp.take(x,o,mode='fill',fill_value=7)
jnp.take_along_axis(X,jnp.argsort(X,axis=1),axis=1), jnp.take(x,k)
jnp.trapezoid(x), jnp.trapezoid(x,jnp.cumsum(p)), jnp.trapezoid(X,dx=0.5,axis=0)
jnp.tril_indices_from(S)[0]*1.0*s, jnp.diag_indices_from(S)[0]*s, S[jnp.triu_indices(3)]
jnp.unique(n,size=5), jnp.unique(n,size=3,fill_value=0), jnp.unique(x,size=6)
jnp.unique(b,size=2)
jnp.unique(n&1,size=3,return_index=True,return_inverse=True,return_counts=True)
jnp.unique_counts(n&1,size=3), jnp.unique_values(n,size=5)
jnp.unique_inverse(n&1,size=2)
jnp.unique_all(n&1,size=3)
jnp.unique(N&1,size=4,axis=0)
jnp.unwrap(x*3)
jnp.vander(x), jnp.vander(x,3,increasing=True)
jnp.vectorize(lambda a,b: a@b, signature='(n),(n)->()')(X,Z)
jnp.where(b,x,y), jnp.where(x>0,x,0.), jnp.where(b,n,m), jnp.where(c,x,y)
jnp.where(b,x,n), jnp.where(n,x,y), jnp.where(b,1,0)
jnp.isclose(x,y,atol=0.5,rtol=0), jnp.allclose(X,Z)
jnp.bartlett(5)*x, jnp.blackman(5)*x, jnp.hamming(5)*x, jnp.hanning(5)*x
jnp.kaiser(5,2.)*x
jnp.arange(5)*x, jnp.arange(5)+n
x[1:4], x[::-1], x[::2], X[1], X[:,1], X[0,1], x[np.array([0,2])]
X[np.array([0,2]),np.array([1,1])], x[-1], X[...,0]
x[np.array([True,False,True,False,True])]
x[k], X[k], X[:,k], X[j,k], X[k,1], T[j,:,k], x[o], X[o,o], X[o], T[:,o,k], x[n]
X[o][:,o], n[k], b[k], w[k], B[j,k]
x.at[k].set(9.), x.at[1].set(s), X.at[k].set(x[:4]), X.at[:,k].set(1.), X.at[j,k].add(s)
x.at[o].add(y[:3]), x.at[o].set(y[:3]), n.at[k].set(3), b.at[k].set(False)
x.at[k].mul(2.), x.at[k].max(7.), x.at[o].min(-1.), x.at[k].get()
x.at[n].get(mode='fill',fill_value=3.), x.at[k].divide(2.), x.at[k].subtract(1.)
x.at[k].power(2)
x.at[1:3].set(0.), x.at[::2].add(1.), X.at[np.array([0,1]),1].set(y[:2])
x.at[n].set(1.), x.at[n].add(1.), x.at[n].set(1.,mode='clip')
x.at[n].add(y,mode='drop')
x.at[k].apply(lambda z: z*2)
x.at[1].apply(lambda z: z*2)
-x, +x, ~n, ~b, abs(x), x**2, x//p, x%p, n//m, n%m, n<<1, n>>1, n&m, n|m, n^m, x@y
divmod(n,m)[0], 2**n, x==y, x!=y, round(x), 2-x, 3/p, 7//m, 7%m, x<0, b&d, b|d, b^d
w<<1, ~w, -w
x.sum(), x.mean(), x.std(), x.var(), x.prod(), x.max(), x.min(), x.argmax(), x.argsort()
x.round(), x.clip(0,1), x.cumsum(), x.dot(y), x.astype(int), X.T, X.mT, X.reshape(-1)
X.flatten(), x.repeat(2), x.take(o), X.trace(), X.diagonal(), x.any(), x.all()
x.nonzero(size=5), x.sort(), x.conj(), x.real, x.swapaxes(0,0)
e, e+1, jnp.sum(e), jnp.mean(E,axis=1), jnp.concatenate([e,x]), jnp.sort(e)
jnp.cumsum(e), E@S, jnp.prod(e), jnp.max(E,axis=1), jnp.dot(e,e), jnp.exp(e)
jnp.where(e>0,e,1), jnp.max(e,initial=3.), e.reshape(0,5), jnp.any(e), jnp.all(e), E.T
E.sum(0), jnp.linalg.norm(e), jnp.take(x,np.zeros(0,int)), x[:0], X[:0]@Y
jnp.argsort(e)
h+1, h*h, jnp.sum(h), h.astype(jnp.float32), g*2, g@g, jnp.exp(g)
x.astype(jnp.bfloat16), n.astype(jnp.float16), jnp.tanh(h), h+x, g+h, jnp.mean(g)
nn.softmax(h), jnp.maximum(g,0)
s+t, s*x, jnp.sin(s), s[None], jnp.sum(s), jnp.sort(s[None]), jnp.max(s), jnp.mean(s)
s.reshape(1,1), jnp.where(c,s,t), lax.cond(c,lambda: s,lambda: t), jnp.cumsum(s)
jnp.argmax(s)
lax.abs(n), lax.acos(u), lax.acosh(p+1), lax.add(x,y), lax.asin(u), lax.asinh(x)
lax.atan(x), lax.atan2(x,y), lax.atanh(u)
lax.approx_max_k(x,2), lax.approx_min_k(x,2), lax.top_k(x,2), lax.top_k(X,2)
lax.top_k(n,3), lax.top_k(w,2), lax.top_k(v,2)
lax.argmax(X,1,jnp.int32), lax.argmin(x,0,jnp.int8), lax.argmax(x,0,jnp.uint8)
lax.associative_scan(jnp.add,x), lax.associative_scan(jnp.maximum,X,axis=1)
lax.associative_scan(lambda a,b:(a[0]*b[0],a[0]*b[1]+a[1]),(u,x))
lax.associative_scan(jnp.multiply,u,reverse=True)
lax.batch_matmul(T,jnp.stack([Y,Y]))
lax.bitcast_convert_type(n,jnp.uint32), lax.bitcast_convert_type(w,jnp.int8)
lax.bitcast_convert_type(v,jnp.uint8), lax.bitcast_convert_type(n,jnp.int32)
lax.bitwise_and(n,m), lax.bitwise_not(n), lax.bitwise_or(b,d), lax.bitwise_xor(w,w)
lax.broadcast(x,(2,)), lax.broadcast_in_dim(x,(2,5),(1,)), lax.broadcast_to_rank(x,3)
lax.collapse(T,0,2), lax.concatenate([X,Z],1)
lax.cbrt(x), lax.ceil(x), lax.clamp(-1.,x,1.), lax.clamp(s,x,p), lax.clz(n), lax.clz(w)
lax.population_count(w), lax.clz(v), lax.population_count(v)
lax.composite(lambda z:z*2,'my.op')(x)
lax.cond(c,lambda z:z+1,lambda z:z*2,x), lax.cond(k>1,lambda z:(z,1),lambda z:(z*2,2),x)
lax.switch(k,[lambda z:z,lambda z:z+1,lambda z:z*z],x)
lax.switch(n[0],[jnp.sin,jnp.cos],x)
lax.conv(I.transpose(0,3,1,2),K.transpose(3,2,0,1),(1,1),'SAME')
lax.conv_general_dilated_patches(I.transpose(0,3,1,2),(2,2),(1,1),'VALID')
lax.conv_transpose(I,K,(2,2),'SAME'), lax.conv_transpose(L,W,(3,),'VALID')
lax.conv_transpose(L,W,(2,),'SAME',rhs_dilation=(2,))
lax.convert_element_type(x,jnp.int16), lax.convert_element_type(n,jnp.int8)
lax.convert_element_type(x,jnp.bfloat16), lax.convert_element_type(n,bool)
lax.convert_element_type(b,jnp.float32), lax.convert_element_type(x,jnp.uint8)
lax.convert_element_type(n,jnp.uint32)
lax.cos(x), lax.cosh(x), lax.cumlogsumexp(x), lax.cummax(X,1)
lax.cummin(x,reverse=True), lax.cumprod(u), lax.cumsum(X,axis=1,reverse=True)
lax.cummax(n), lax.cumsum(n), lax.cumprod(n)
lax.div(x,p), lax.div(n,m), lax.div(w,w|1), lax.div(v,v|1), lax.rem(n,m), lax.rem(w,w|1)
lax.dot(X,Y), lax.dot(x,y)
lax.dot_general(T,jnp.stack([Y,Y]),(((2,),(1,)),((0,),(0,))))
lax.dot_general(n,m,(((0,),(0,)),((),())),preferred_element_type=jnp.float32)
lax.dot_general(v,w.astype(jnp.int8),(((0,),(0,)),((),())),preferred_element_type=jnp.int32)
lax.dot_general(X,X,(((0,1),(0,1)),((),()))), lax.dot_general(x,y,(((),()),((),())))
lax.dot_general(T,T,(((1,),(1,)),((0,2),(0,2))))
lax.dynamic_index_in_dim(X,k,0), lax.dynamic_index_in_dim(X,k,1,keepdims=False)
lax.dynamic_slice(X,(k,j),(1,2)), lax.dynamic_slice_in_dim(x,k,2)
lax.dynamic_slice(T,(j,k,j),(1,2,2)), lax.dynamic_slice(n,(k,),(3,))
lax.dynamic_slice(x,(n[1],),(2,))
lax.dynamic_update_index_in_dim(X,x[:4],k,0), lax.dynamic_update_slice(X,Z[:1,:2],(k,j))
lax.dynamic_update_slice_in_dim(x,y[:2],k,0)
lax.dynamic_update_slice(T,T[:1,:2,:1],(j,j,k)), lax.dynamic_update_slice(n,m[:2],(k,))
lax.dynamic_update_slice(b,d[:2],(n[0],))
lax.dynamic_update_slice(X,Z[:1,:1],(n[0],n[1])), lax.dynamic_update_slice(X,Z,(k,j))
lax.eq(x,y), lax.ge(n,m), lax.gt(b,d), lax.le(w,w), lax.lt(v,v), lax.ne(x,y)
lax.erf(x), lax.erf_inv(u), lax.erfc(x), lax.exp(x), lax.exp2(x), lax.expm1(x)
lax.expand_dims(x,(0,))
fft.fftfreq(5)*x, fft.fftshift(x), fft.ifftshift(x), fft.rfftfreq(8)*x
lax.floor(x), lax.round(x), lax.round(x,lax.RoundingMethod.TO_NEAREST_EVEN), lax.sign(x)
lax.sign(n)
lax.fori_loop(0,4,lambda i,z:z*0.5+i,x), lax.fori_loop(0,3,lambda i,z:z+x[i],s)
lax.fori_loop(1,5,lambda i,z:z.at[i].set(z[i-1]*.5),x)
lax.fori_loop(0,0,lambda i,z:z+1,x), lax.fori_loop(0,1,lambda i,z:z+1,n)
lax.full((2,),s), lax.full_like(x,3.)+x, lax.iota(jnp.float32,5)*x
lax.index_in_dim(X,1,0), lax.index_take(X,(o,),(0,))
lax.integer_pow(x,3), lax.integer_pow(p,-2), lax.integer_pow(n,2), lax.pow(p,x)
lax.pow(x,n&3), lax.pow(x,2)
lax.is_finite(x), lax.log(p), lax.log1p(p), lax.logistic(x), lax.max(x,y), lax.min(n,m)
lax.mul(x,y), lax.neg(x), lax.ne(n,m), lax.reciprocal(p), lax.rsqrt(p), lax.sqrt(p)
lax.square(x), lax.sub(x,y)
lax.map(lambda r:r.sum(),X), lax.map(lambda r:jnp.sort(r),X,batch_size=2)
lax.optimization_barrier((x,y)), lax.stop_gradient(x), lax.reduce_precision(x,8,7)
lax.pad(x,0.,((1,1,1),)), lax.pad(X,s,((0,1,0),(-1,2,0))), lax.pad(b,True,((1,1,0),))
lax.platform_dependent(x,cpu=lambda z:z+1,default=lambda z:z)
lax.population_count(n), lax.shift_left(n,m&7), lax.shift_right_arithmetic(n,m&7)
lax.shift_right_logical(n,m&7), lax.shift_left(n,np.int32(40))
lax.shift_right_arithmetic(n,np.int32(40)), lax.shift_right_logical(v,np.int8(3))
lax.shift_left(n,m), lax.shift_right_logical(n,m), lax.shift_right_arithmetic(n,m)
lax.shift_left(w,w), lax.shift_right_arithmetic(v,v)
lax.reduce(x,0.,lax.add,(0,)), lax.reduce(X,-10.,lax.max,(1,)), lax.reduce_and(B,(0,))
lax.reduce_max(X,(0,)), lax.reduce_min(N,(1,)), lax.reduce_or(N,(0,))
lax.reduce_prod(X,(0,)), lax.reduce_sum(X,(0,1)), lax.reduce_xor(N,(0,))
lax.reduce_and(w,(0,))
lax.reduce(x,s,lax.add,(0,))
lax.reduce_window(X,0.,lax.add,(2,2),(1,1),'VALID')
lax.reduce_window(X,-jnp.inf,lax.max,(2,2),(2,1),'SAME')
lax.reduce_window(N,0,lax.add,(2,2),(1,1),'SAME')
lax.reduce_window(X,1.,lax.mul,(2,1),(1,1),'VALID')
lax.reduce_window(X,jnp.inf,lax.min,(1,2),(1,2),'VALID')
lax.reduce_window(X,0.,lax.add,(2,2),(1,1),'VALID',base_dilation=(2,1))
lax.reduce_window(w,np.uint8(0),lax.max,(2,),(1,),'VALID')
lax.reshape(X,(4,3)), lax.reshape(X,(12,),dimensions=(1,0)), lax.rev(X,(0,))
lax.select(b,x,y), lax.select_n(b,x,y), lax.select_n(o&1,x[:3],y[:3])
lax.select_n(o,x[:3],y[:3],p[:3]), lax.select_n(k,x,y,p)
lax.scan(lambda cr,r:(cr+r,cr*r),jnp.zeros(4),X)
lax.scan(lambda cr,r:(cr*.5+r,cr),x[:4],X,reverse=True)
lax.scan(lambda cr,_:(cr*.5,cr.sum()),x,None,length=4)
lax.scan(lambda cr,r:(cr+r,r),s,x,unroll=2)
lax.scan(lambda cr,r:(cr+r,r),s,x,unroll=True)
lax.scan(lambda cr,r:((cr[0]+r,cr[1]|(r>0)),cr[1]),(s,c),x)
lax.scan(lambda cr,r:(cr^r,cr),k,n), lax.scan(lambda cr,r:(cr,r),s,e)
lax.scan(lambda cr,r:(cr+r[0],r[1]),s,(x,n))
lax.scatter(x,np.array([[1]]),y[:1],lax.ScatterDimensionNumbers((),(0,),(0,)))
lax.scatter_add(x,o[:,None],y[:3],lax.ScatterDimensionNumbers((),(0,),(0,)))
lax.scatter_max(x,o[:,None],y[:3],lax.ScatterDimensionNumbers((),(0,),(0,)))
lax.scatter_min(x,o[:,None],y[:3],lax.ScatterDimensionNumbers((),(0,),(0,)))
lax.scatter_mul(x,o[:,None],y[:3],lax.ScatterDimensionNumbers((),(0,),(0,)))
lax.scatter_sub(x,o[:,None],y[:3],lax.ScatterDimensionNumbers((),(0,),(0,)))
lax.gather(X,o[:,None],lax.GatherDimensionNumbers((1,),(0,),(0,)),(1,4))
lax.gather(X,o[:,None],lax.GatherDimensionNumbers((1,),(0,),(0,)),(1,4),mode='clip')
lax.gather(X,jnp.stack([o,o],1),lax.GatherDimensionNumbers((1,),(0,),(0,1)),(1,2))
lax.slice(X,(0,1),(2,3)), lax.slice_in_dim(x,1,4,2), lax.slice(X,(0,0),(3,4),(2,2))
lax.sort(x), lax.sort((n,x)), lax.sort((b,n,x),num_keys=2), lax.sort_key_val(n,x)
lax.sort(X,0), lax.sort(x,is_stable=False), lax.sort((n&1,x),num_keys=1)
lax.sort((x,n,b),num_keys=3), lax.sort((X,N),dimension=0)
lax.split(x,(2,3)), lax.squeeze(X[None],(0,)), lax.transpose(X,(1,0)), lax.tan(u)
lax.tanh(x), lax.tile(x,(2,))
lax.while_loop(lambda st:st[0]<4,lambda st:(st[0]+1,st[1]*.5),(0,x))
lax.while_loop(lambda st:st[0]<0,lambda st:(st[0]+1,st[1]*.5),(0,x))
lax.custom_linear_solve(lambda v:S@v,x[:3],lambda mv,b_:jnp.linalg.solve(S,b_))
nn.celu(x), nn.elu(x), nn.gelu(x), nn.gelu(x,approximate=False), nn.glu(x[:4])
nn.hard_sigmoid(x), nn.hard_silu(x), nn.hard_swish(x), nn.hard_tanh(x), nn.identity(x)
nn.leaky_relu(x)
nn.log_sigmoid(x), nn.log_softmax(X), nn.logsumexp(X,axis=1), nn.mish(x)
nn.one_hot(n,4), nn.one_hot(o,3,dtype=jnp.int32), nn.relu(x), nn.relu6(x), nn.selu(x)
nn.sigmoid(x), nn.silu(x), nn.soft_sign(x), nn.softmax(X), nn.softplus(x)
nn.sparse_plus(x), nn.sparse_sigmoid(x), nn.squareplus(x), nn.standardize(X)
nn.swish(x), nn.tanh(x), nn.log1mexp(p), nn.logmeanexp(x)
nn.standardize(X,axis=0,epsilon=1e-3), nn.log_softmax(x,where=b), nn.logsumexp(x,b=p)
nn.logsumexp(x,b=y,return_sign=True)
nn.scaled_dot_general(X,Y,(((1,),(0,)),((),())))
sp.erf(x), sp.erfc(x), sp.erfinv(u), sp.expit(x), sp.logit(jnp.abs(u)*.9+.05)
sp.logsumexp(X), sp.xlogy(x,p), sp.xlog1py(x,p), sp.entr(p), sp.rel_entr(p,p[::-1])
sp.kl_div(p,p[::-1]), sp.log_softmax(x), sp.softmax(X,axis=0), sp.ndtr(x)
sp.boxcox(p,x), sp.boxcox1p(p,x)
sp.log_ndtr(x)
sp.ndtri(jnp.abs(u)*.9+.05)
sp.entr(x), sp.xlogy(jnp.zeros(5),p*x*x), sp.rel_entr(jnp.abs(x),p)
sp.bernoulli(5)*x[0]
sp.comb(5.,2.)*x
sp.gammasgn(p)
sp.spence(p)
la.cholesky(P), la.cholesky(P,upper=True), la.det(S), la.slogdet(S), la.inv(S)
la.solve(S,x[:3]), la.solve(S,S), la.qr(S), la.qr(X.T,mode='r')
la.cholesky(jnp.stack([P,P*2])), la.inv(jnp.stack([S,S])), la.det(jnp.stack([S,P]))
la.solve(jnp.stack([S,P]),jnp.stack([S,P]))
la.eigh(P)[0], la.eigvalsh(P), la.svd(S,compute_uv=False), la.svdvals(X), la.pinv(X)
la.matrix_rank(S), la.lstsq(X.T,x[:4])[0], la.matrix_power(S,3), la.matrix_power(S,-1)
la.multi_dot([X,Y,Y.T]), la.norm(x), la.norm(X), la.norm(X,1), la.norm(X,jnp.inf)
la.norm(x,3), la.norm(X,2), la.norm(X,'nuc'), la.norm(x,0), la.norm(X,axis=1)
la.norm(x,-jnp.inf), la.matrix_norm(X), la.vector_norm(X)
la.outer(x,y), la.tensorinv(S.reshape(3,3),ind=1), la.tensorsolve(S,x[:3]), la.trace(S)
la.vecdot(X,Z), la.matrix_transpose(X), la.diagonal(S), la.matmul(X,Y)
la.qr(X)[0]@la.qr(X)[1], (lambda uu,ss,vv: uu*ss@vv)(*la.svd(X,full_matrices=False))
(lambda ww,vv: vv*ww@vv.T)(*la.eigh(P))
jsp.linalg.block_diag(S,P), jsp.linalg.cho_solve(jsp.linalg.cho_factor(P),x[:3])
jsp.linalg.cholesky(P,lower=True), jsp.linalg.circulant(x), jsp.linalg.companion(p)
jsp.linalg.det(S), jsp.linalg.toeplitz(x,y), jsp.linalg.hankel(x,y), jsp.linalg.inv(S)
jsp.linalg.solve(P,x[:3],assume_a='pos'), jsp.linalg.solve(S,x[:3])
jsp.linalg.solve_triangular(S,x[:3],lower=True)
jsp.linalg.solve_triangular(S,S,trans=1), jsp.linalg.lu(S)[1]
jsp.linalg.lu_solve(jsp.linalg.lu_factor(S),x[:3])
jsp.linalg.lu(S), jsp.linalg.lu_factor(S)
jsp.linalg.eigh(P,eigvals_only=True), jsp.linalg.qr(S)
jsp.linalg.svd(S,compute_uv=False)
jsp.linalg.convolution_matrix(x,3), jsp.linalg.leslie(p,p[:4])
lax.linalg.cholesky(P), lax.linalg.eigh(P)[1], lax.linalg.lu(S), lax.linalg.qr(S)
lax.linalg.svd(S,compute_uv=False)
lax.linalg.triangular_solve(S,x[:3,None],left_side=True,lower=True)
lax.linalg.triangular_solve(S,S,left_side=False,transpose_a=True)
lax.linalg.triangular_solve(S,S,left_side=True,lower=False,unit_diagonal=True)
jax.image.resize(X,(6,8),'linear'), jax.image.resize(X,(2,2),'nearest')
jax.image.resize(X,(6,4),'cubic'), jax.image.resize(X,(5,5),'lanczos3')
jsp.signal.convolve(x,y), jsp.signal.convolve2d(X,Z[:2,:2],mode='same')
jsp.signal.correlate(x,y), jsp.signal.correlate2d(X,Z[:2,:2]), jsp.signal.detrend(x)
jsp.stats.mode(n&1), jsp.stats.rankdata(x), jsp.stats.sem(x)
jsp.stats.rankdata(n&1,'min')
jsp.stats.norm.pdf(x), jsp.stats.norm.logpdf(x,s,p), jsp.stats.norm.cdf(x)
jsp.stats.logistic.cdf(x), jsp.stats.laplace.pdf(x), jsp.stats.expon.pdf(p)
jsp.stats.uniform.pdf(x), jsp.stats.bernoulli.pmf(b.astype(jnp.int32),0.3)
jsp.stats.cauchy.pdf(x)
jsp.stats.norm.ppf(jnp.abs(u)*.9+.05), jsp.stats.norm.sf(x), jsp.stats.norm.logcdf(x)
jsp.stats.multivariate_normal.logpdf(x[:3],jnp.zeros(3),P)
jsp.ndimage.map_coordinates(X,[jnp.array([.5,1.5]),jnp.array([1.2,.3])],order=1)
jsp.ndimage.map_coordinates(X,[p[:3],p[:3]],order=1)
jsp.ndimage.map_coordinates(X,[p[:3],p[:3]],order=0)
jsp.integrate.trapezoid(x)
jax.ops.segment_sum(x,n&3,num_segments=4), jax.ops.segment_max(x,n&1,num_segments=2)
jax.ops.segment_min(n,n&1,num_segments=3), jax.ops.segment_prod(u,n&1,num_segments=2)
jax.device_put(x)+1, jax.checkpoint(jnp.sin)(x), jax.jit(jnp.cos)(x)
jax.named_call(jnp.tanh)(x), jax.vmap(jnp.dot)(X,Z), jax.lax.stop_gradient(x)
jax.lax.with_sharding_constraint(x,jax.sharding.SingleDeviceSharding(jax.devices()[0]))
jax.vmap(lambda a:lax.psum(a,'i'),axis_name='i')(x)
jax.vmap(lambda a:a-lax.pmean(a,'i'),axis_name='i')(x)
jax.vmap(lambda a:lax.axis_index('i')*a,axis_name='i')(x)
jax.vmap(lambda a:lax.all_gather(a,'i'),axis_name='i')(x)
jax.vmap(lambda a:lax.ppermute(a,'i',[(0,1),(1,0)]),axis_name='i')(x[:2])
jax.vmap(lambda a:lax.pmax(a,'i'),axis_name='i')(x)
jax.linear_transpose(lambda a:a*2,x)(y), jax.jvp(jnp.sin,(x,),(y,))
jax.vjp(jnp.sin,x)[1](y), jax.linearize(jnp.sin,x)[1](y)
jax.grad(lambda a:jnp.sum(a**3))(x), jax.value_and_grad(lambda a:jnp.sum(a*a))(x)
jax.hessian(lambda a:jnp.sum(a**3))(x), jax.jacfwd(jnp.sin)(x), jax.jacrev(jnp.cos)(x)
nn.dot_product_attention(Q,Q,Q)
nn.dot_product_attention(Q,Q,Q,is_causal=True)
nn.softmax(jnp.where(b,x,jnp.finfo(jnp.float32).min)), nn.softmax(jnp.where(b,x,-jnp.inf))
jnp.maximum(x,-1e38), jnp.clip(x,-1e30,1e30), x<1e30
B@B.T, jnp.power(-2.,jnp.round(x)), jnp.power(x,jnp.round(y)), jnp.power(x,m)
x.at[k].apply(lambda z:z*2), X.at[1].apply(jnp.sin), x.at[np.array([0,2])].apply(jnp.sin)
sp.gammaln(p), sp.digamma(p), sp.i0e(x), sp.i1e(x)
sp.gamma(p), sp.beta(p,p), sp.factorial(jnp.abs(n))
jsp.stats.poisson.logpmf(jnp.abs(n),p), jsp.stats.gamma.logpdf(p,p), jsp.stats.t.logpdf(x,p)
""".strip().splitlines()

#: what is refused, and a part of what the error says
REFUSED = [
    ("jnp.frexp(x)", "fixed point"),
    ("jnp.nextafter(x, y)", "no neighbouring float"),
    ("jnp.spacing(x)", "no neighbouring float"),
    ("jnp.gcd(n, m)", "sf.bounded_while"),
    ("jnp.sort_complex(x)", "real_fft"),
    ("jnp.roots(x[:3], strip_zeros=False)", "use eigh"),
    ("fft.fft(x)", "real_fft"),
    ("fft.irfft(fft.rfft(x), 5)", "inverse_real_fft"),
    ("jsp.signal.fftconvolve(x, y)", "real_fft"),
    ("lax.complex(x, y)", "real and imaginary parts"),
    ("lax.bitcast_convert_type(n, jnp.float32)", "fixed point"),
    ("lax.bitcast_convert_type(x, jnp.int32)", "fixed point"),
    ("lax.bitcast_convert_type(n, jnp.int16)", "one width"),
    ("lax.igamma(p, p)", "no approximation"),
    ("lax.zeta(p + 1.5, p)", "no approximation"),
    ("lax.betainc(p, p, u)", "no approximation"),
    ("lax.while_loop(lambda z: z.sum() < 4, lambda z: z + 1, x)", "sf.bounded_while"),
    ("lax.fori_loop(0, k, lambda i, z: z + 1, x)", "sf.bounded_while"),
    ("la.eig(S)", "use eigh"),
    ("lax.ragged_dot(X, jnp.stack([Y, Y]), np.array([1, 2]))", "use dot_general"),
    ("x.at[o].apply(jnp.sin)", "as often as i names a place"),
    ("x[b]", "x.sum(where=mask)"),
    ("x.at[b].set(0.0)", "jnp.where(mask, x, other)"),
    ("jnp.nonzero(b)", "jnp.where"),
    ("jnp.arange(k)", "static argument"),
    ("float(s) + x", "jnp.where"),
    ("x if s > 0 else y", "jnp.where"),
    ("jax.pure_callback(lambda a: a, x, x)", "would see a secret"),
    ("jax.random.normal(jax.random.key(k), (3,))", "public key"),
    ("jax.random.normal(jax.random.PRNGKey(k), (3,))", "public key"),
    ("jax.random.normal(jax.random.fold_in(jax.random.key(0), k), (3,))", "public key"),
    ("jax.random.poisson(jax.random.key(0), p)", "sf.bounded_while"),
    ("x * jnp.nan", "NaN"),
]
