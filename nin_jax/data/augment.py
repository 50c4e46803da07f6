"""Random shifts, crops, flips and colours of images, drawn from one key for each example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def central_crop(images: Float[Array, "n h w c"], size: int) -> Float[Array, "n size size c"]:
  """Returns the central size × size part, the smaller margins above and left; all of it where size is 0."""
  if not size:
    return images
  _, height, width, _ = images.shape
  top, left = (height - size) // 2, (width - size) // 2
  return images[:, top : top + size, left : left + size]


def augment(
  images: Float[Array, "n h w c"],
  key: Array,
  positions: Int[Array, " n"],
  *,
  translate: int = 0,
  crop: int = 0,
  flip: bool = False,
) -> Float[Array, "n h2 w2 c"]:
  """Shifts, crops and flips each image by its own draw.

  An image is shifted by −translate … translate pixels each way with zeros moved in (so images should be normalised
  already), then a random crop × crop part is taken (0: the whole), then it is mirrored left to right half the time.

  Args:
    images: float [n, h, w, c].
    key: the batch's key.
    positions: int [n], each image's place in the global batch. An image's key is fold_in(key, position): the draw does
      not depend on how a batch is spread over devices.
    translate: the largest shift, in pixels.
    crop: height and width of the part that is taken; 0: the whole image.
    flip: whether to mirror.

  Returns:
    float [n, crop or h, crop or w, c].
  """
  if not (translate or crop or flip):
    return images
  _, height, width, channels = images.shape
  size = (crop or height, crop or width)
  spare = (height - size[0], width - size[1])

  def draw(position: Array) -> tuple[Array, Array]:
    uniform = jax.random.uniform(jax.random.fold_in(key, position), (5,))  # one draw: it compiles soonest
    shift = jnp.floor(uniform[0:2] * (2 * translate + 1)).astype(jnp.int32) - translate
    offset = jnp.floor(uniform[2:4] * (jnp.array(spare) + 1)).astype(jnp.int32)
    # Shifting by s and cropping at o is one slice at translate + o − s of the image padded by translate.
    return translate + offset - shift, uniform[4] < 0.5

  starts, mirrored = jax.vmap(draw)(positions)
  if translate or crop:
    padding = (translate, translate)
    padded = jnp.pad(images, ((0, 0), padding, padding, (0, 0)))
    images = jax.vmap(lambda image, start: jax.lax.dynamic_slice(image, (*start, 0), (*size, channels)))(padded, starts)
  if flip:
    images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
  return images


GREY = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601's luma


def jitter(
  images: Float[Array, "n h w c"],
  key: Array,
  positions: Int[Array, " n"],
  *,
  brightness: float = 0.0,
  contrast: float = 0.0,
  saturation: float = 0.0,
) -> Float[Array, "n h w c"]:
  """Changes the colours of each image by factors of its own, as torchvision's ColorJitter but in a fixed order.

  With b, c and s uniform in 1 ± brightness, 1 ± contrast and 1 ± saturation, and clip to [0, 1]:

    x ← clip(b x),  x ← clip(c x + (1 − c) mean(grey(x))),  x ← clip(s x + (1 − s) grey(x))

  grey(x) is each pixel's luma, 0.299 R + 0.587 G + 0.114 B, and mean its mean over the image. Grey images are their own
  luma, and have no saturation; of four channels the last, transparency, is left alone.

  Args:
    images: float [n, h, w, c], 0 to 1, not yet normalised.
    key, positions: as in `augment`; the draws are apart from its own.
    brightness, contrast, saturation: 0 to 1; 0 leaves that out.
  """
  if not (brightness or contrast or saturation):
    return images
  draw = lambda position: jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, position), 1), (3,))
  spread = jnp.array([brightness, contrast, saturation], images.dtype)
  factors = 1 + spread * (2 * jax.vmap(draw)(positions) - 1)
  b, c, s = (factors[:, i, None, None, None] for i in range(3))
  x, alpha = (images[..., :3], images[..., 3:]) if images.shape[-1] == 4 else (images, None)
  grey = lambda x: (x * jnp.array(GREY, x.dtype)).sum(-1, keepdims=True) if x.shape[-1] == 3 else x
  if brightness:
    x = jnp.clip(b * x, 0, 1)
  if contrast:
    x = jnp.clip(c * x + (1 - c) * grey(x).mean((1, 2, 3), keepdims=True), 0, 1)
  if saturation and x.shape[-1] == 3:
    x = jnp.clip(s * x + (1 - s) * grey(x), 0, 1)
  return x if alpha is None else jnp.concatenate([x, alpha], -1)
