"""Random shifts, crops and flips of images, drawn from one key for each example."""

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
