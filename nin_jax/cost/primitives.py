"""JAX's primitives by the work they do. What is in no set here is work nobody knows, and is counted apart."""


def _names(words: str) -> frozenset[str]:
  return frozenset(words.split())


PRODUCTS = frozenset({"conv_general_dilated", "dot_general", "ragged_dot_general", "ragged_dot"})

MOVEMENT = _names("""
  after_all all_gather all_to_all axis_index bitcast_convert_type broadcast broadcast_in_dim concatenate conj
  convert_element_type copy copy_p create_token dce_sink debug_callback debug_print device_put dim_as_value
  dynamic_slice dynamic_update_slice empty empty2 expand_dims from_edtype gather imag iota layout_constraint mesh_cast
  name
  optimization_barrier pad pbroadcast pcast platform_index ppermute pshuffle pvary pvary_p random_clone random_fold_in
  random_seed random_split random_unwrap random_wrap real reduce_precision reshape reshard rev scatter select_and_gather
  sharding_constraint slice split squeeze stack stage stop_gradient tie tile to_edtype transpose unstack
  """)

# Each element made of the one at the same place.
COPIES = _names("conj convert_element_type copy copy_p imag real reduce_precision")

# Where the inlined body of a loop, a branch or a device's share meets what is around it.
SEAMS = _names("loop_slice loop_stack loop_carry branch_result device_slice")

ELEMENTWISE = _names("""
  abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex cos cosh
  digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac integer_pow is_finite le
  le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi ne neg nextafter not one_minus_square or polygamma
  polynomial population_count pow random_bits random_gamma regularized_incomplete_beta rem rng_bit_generator rng_uniform
  round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square sub tan tanh
  threefry2x32 xor zeta
  """)

REDUCTIONS = _names("""
  argmax argmin cumlogsumexp cummax cummin cumprod cumsum pmax pmin psum psum2 psum_invariant psum_scatter reduce
  reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_scatter reduce_sum reduce_xor
  """)

WINDOWS = _names("reduce_window reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add")
SCATTERED_WINDOWS = _names("select_and_scatter select_and_scatter_add")
SCATTERS = _names("scatter-add scatter-max scatter-min scatter-mul scatter-sub")

# What a small jaxpr in the parameters belongs to: it says how to combine two elements, and is not inlined.
KNOWN = PRODUCTS | MOVEMENT | SEAMS | ELEMENTWISE | REDUCTIONS | WINDOWS | SCATTERED_WINDOWS | SCATTERS
