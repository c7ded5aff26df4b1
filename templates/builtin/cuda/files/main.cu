#include <cmath>
#include <vector>

#include "warpket.h"

// Each thread adds one pair.
__global__ void vecadd(const float *a, const float *b, float *c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

// Adds two vectors on the GPU. The input is {"n": 1048576}.
int main() {
    return warpket::run([] {
        auto input = warpket::input();
        int n = static_cast<int>(input["n"].integer(1 << 20, 1, 1 << 28));
        std::vector<float> a(n), b(n), c(n);
        for (int i = 0; i < n; i++) {
            a[i] = std::sin(static_cast<float>(i));
            b[i] = std::cos(static_cast<float>(i));
        }

        float *da, *db, *dc;
        size_t bytes = n * sizeof(float);
        CUDA_CHECK(cudaMalloc(&da, bytes));
        CUDA_CHECK(cudaMalloc(&db, bytes));
        CUDA_CHECK(cudaMalloc(&dc, bytes));
        CUDA_CHECK(cudaMemcpy(da, a.data(), bytes, cudaMemcpyHostToDevice));
        CUDA_CHECK(cudaMemcpy(db, b.data(), bytes, cudaMemcpyHostToDevice));
        vecadd<<<(n + 255) / 256, 256>>>(da, db, dc, n);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy(c.data(), dc, bytes, cudaMemcpyDeviceToHost));

        float worst = 0;
        for (int i = 0; i < n; i++) worst = std::max(worst, std::fabs(c[i] - (a[i] + b[i])));
        std::cout << "added " << n << " pairs" << std::endl; // the log
        warpket::result({{"n", n}, {"worstError", worst}, {"target", "gpu"}});
    });
}
