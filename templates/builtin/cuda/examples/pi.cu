#include <cmath>

#include "warpket.h"

// A generator of random numbers whose n-th is computed from n alone (SplitMix64),
// so that threads need no state.
__device__ double uniform(unsigned long long seed, unsigned long long n) {
    unsigned long long z = seed + (n + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// Counts random points of the unit square that lie in the circle.
__global__ void count(unsigned long long seed, unsigned long long points, unsigned long long *inside) {
    unsigned long long own = 0;
    for (unsigned long long i = blockIdx.x * static_cast<unsigned long long>(blockDim.x) + threadIdx.x; i < points; i += static_cast<unsigned long long>(gridDim.x) * blockDim.x) {
        double x = uniform(seed, 2 * i), y = uniform(seed, 2 * i + 1);
        own += x * x + y * y <= 1;
    }
    atomicAdd(inside, own);
}

// Estimates pi. The input is {"points": 100000000}.
int main() {
    return warpket::run([] {
        auto points = static_cast<unsigned long long>(warpket::input()["points"].integer(100000000, 1, 1000000000000));
        unsigned long long *dinside, inside = 0;
        CUDA_CHECK(cudaMalloc(&dinside, sizeof inside));
        CUDA_CHECK(cudaMemset(dinside, 0, sizeof inside));
        count<<<2048, 256>>>(warpket::seed(), points, dinside);
        CUDA_CHECK(cudaGetLastError());
        CUDA_CHECK(cudaMemcpy(&inside, dinside, sizeof inside, cudaMemcpyDeviceToHost));
        double pi = 4.0 * static_cast<double>(inside) / static_cast<double>(points);
        warpket::result({{"points", points}, {"pi", pi}, {"standardError", 4 * std::sqrt(0.1686 / static_cast<double>(points))}, {"target", "gpu"}});
    });
}
