// The three BLAS routines that MLX calls, forwarded to OpenBLAS, whose symbols in the PyPI build carry a prefix. The
// loader searches this library before libmlx's reference BLAS, so libmlx's calls arrive here.
#ifdef NIGHTSHIFT_OPENBLAS

extern "C" {
#define GEMM(name, scalar, element)                                                                                  \
  void scipy_cblas_##name(                                                                                           \
      int order, int trans_a, int trans_b, int m, int n, int k, scalar alpha, const element* a, int lda,             \
      const element* b, int ldb, scalar beta, element* c, int ldc);                                                  \
  void cblas_##name(                                                                                                 \
      int order, int trans_a, int trans_b, int m, int n, int k, scalar alpha, const element* a, int lda,             \
      const element* b, int ldb, scalar beta, element* c, int ldc) {                                                 \
    scipy_cblas_##name(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                       \
  }

GEMM(sgemm, float, float)
GEMM(dgemm, double, double)
GEMM(cgemm, const void*, void)
#undef GEMM

const char* scipy_openblas_get_config(void);
int scipy_openblas_get_num_threads(void);
void scipy_openblas_set_num_threads(int threads);

const char* nightshift_openblas_config(void) {
  return scipy_openblas_get_config();
}

int nightshift_openblas_threads(void) {
  return scipy_openblas_get_num_threads();
}

void nightshift_openblas_set_threads(int threads) {
  scipy_openblas_set_num_threads(threads);
}
}

#endif
