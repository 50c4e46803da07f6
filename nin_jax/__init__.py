"""nin_jax: a laboratory for 1×1 convolutions."""
