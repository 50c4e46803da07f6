"""The cost of a JAX function, layer by layer, before anything runs."""

from nin_jax.cost.analysis import analyze as analyze
from nin_jax.cost.export import to_csv as to_csv
from nin_jax.cost.export import to_json as to_json
from nin_jax.cost.layer import Cost as Cost
from nin_jax.cost.layer import Layer as Layer
from nin_jax.cost.table import table as table
