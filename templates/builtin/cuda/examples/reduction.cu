#include <cmath>
#include <vector>

#include "warpket.h"

// Sums a vector: each warp by shuffles, each block through shared memory, and
// the blocks by one atomic addition each.
__global__ void reduce(const float *x, double *sum, size_t n) {
    double own = 0;
    for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * blockDim.x) own += x[i];
    for (int offset = 16; offset > 0; offset /= 2) own += __shfl_down_sync(0xffffffff, own, offset);
    __shared__ double warps[32];
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
    __syncthreads();
    if (threadIdx.x < 32) {
        own = threadIdx.x < blockDim.x / 32 ? warps[threadIdx.x] : 0;
        for (int offset = 16; offset > 0; offset /= 2) own += __shfl_down_sync(0xffffffff, own, offset);
        if (threadIdx.x == 0) atomicAdd(sum, own);
    }
}

// Sums whole numbers on the GPU. The input is {"n": 16777216}.
int main() {
    return warpket::run([] {
        size_t n = static_cast<size_t>(warpket::input()["n"].integer(1 << 24, 1, 1LL << 31));
        std::vector<float> x(n);
        double want = 0;
        for (size_t i = 0; i < n; i++) x[i] = static_cast<float>(i % 9) - 4, want += x[i];
        float *dx;
        double *dsum, got = 0;
        CUDA_CHECK(cudaMalloc(&dx, n * sizeof(float)));
        CUDA_CHECK(cudaMalloc(&dsum, sizeof(double)));
        CUDA_CHECK(cudaMemcpy(dx, x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
        CUDA_CHECK(cudaMemset(dsum, 0, sizeof(double)));
        reduce<<<1024, 256>>>(dx, dsum, n);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy(&got, dsum, sizeof got, cudaMemcpyDeviceToHost));
        warpket::result({{"n", n}, {"sum", got}, {"error", std::fabs(got - want)}, {"target", "gpu"}});
    });
}
