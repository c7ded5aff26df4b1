#include <vector>

#include "warpket.h"

// Counts bytes. Each block has a histogram of its own in shared memory.
__global__ void histogram(const unsigned char *x, unsigned long long *bins, size_t n) {
    __shared__ unsigned own[256];
    own[threadIdx.x] = 0;
    __syncthreads();
    for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < n; i += static_cast<size_t>(gridDim.x) * blockDim.x) atomicAdd(&own[x[i]], 1u);
    __syncthreads();
    atomicAdd(&bins[threadIdx.x], static_cast<unsigned long long>(own[threadIdx.x]));
}

// Counts how often each byte occurs. The input is {"n": 16777216}.
int main() {
    return warpket::run([] {
        size_t n = static_cast<size_t>(warpket::input()["n"].integer(1 << 24, 1, 1LL << 31));
        std::vector<unsigned char> x(n);
        std::vector<unsigned long long> want(256), got(256);
        unsigned state = static_cast<unsigned>(warpket::seed()) | 1;
        for (auto &byte : x) {
            state = state * 1664525u + 1013904223u;
            byte = static_cast<unsigned char>(state >> 24);
            want[byte]++;
        }
        unsigned char *dx;
        unsigned long long *dbins;
        CUDA_CHECK(cudaMalloc(&dx, n));
        CUDA_CHECK(cudaMalloc(&dbins, 256 * sizeof(unsigned long long)));
        CUDA_CHECK(cudaMemcpy(dx, x.data(), n, cudaMemcpyHostToDevice));
        CUDA_CHECK(cudaMemset(dbins, 0, 256 * sizeof(unsigned long long)));
        histogram<<<512, 256>>>(dx, dbins, n);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy(got.data(), dbins, 256 * sizeof(unsigned long long), cudaMemcpyDeviceToHost));
        warpket::result({{"n", n}, {"bins", got}, {"right", got == want}, {"target", "gpu"}});
    });
}
