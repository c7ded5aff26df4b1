#include <cmath>
#include <vector>

#include "warpket.h"

// A block computes a tile of C, 128 by 128; each of its 256 threads 8 by 8 of
// that, in registers. Tiles of A and B go through shared memory, 8 columns and
// rows at a time.
constexpr int tile = 128, depth = 8, own = 8;

__global__ __launch_bounds__(256) void sgemm(const float *a, const float *b, float *c, int n) {
    __shared__ float as[depth][tile + 4];
    __shared__ float bs[depth][tile];
    int row = blockIdx.y * tile, column = blockIdx.x * tile, t = threadIdx.x;
    int ty = t / 16 * own, tx = t % 16 * own;
    float sum[own][own] = {};
    for (int k = 0; k < n; k += depth) {
        for (int i = t; i < tile * depth; i += 256) {
            int r = i / depth, d = i % depth;
            as[d][r] = row + r < n && k + d < n ? a[static_cast<size_t>(row + r) * n + k + d] : 0;
        }
        for (int i = t; i < tile * depth; i += 256) {
            int d = i / tile, q = i % tile;
            bs[d][q] = k + d < n && column + q < n ? b[static_cast<size_t>(k + d) * n + column + q] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < depth; d++) {
            float x[own], y[own];
#pragma unroll
            for (int i = 0; i < own; i++) x[i] = as[d][ty + i], y[i] = bs[d][tx + i];
#pragma unroll
            for (int i = 0; i < own; i++)
#pragma unroll
                for (int j = 0; j < own; j++) sum[i][j] += x[i] * y[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < own; i++)
        for (int j = 0; j < own; j++)
            if (row + ty + i < n && column + tx + j < n) c[static_cast<size_t>(row + ty + i) * n + column + tx + j] = sum[i][j];
}

// Multiplies two square matrices and says how fast. The input is
// {"n": 2048, "rounds": 10}.
int main() {
    return warpket::run([] {
        auto input = warpket::input();
        int n = static_cast<int>(input["n"].integer(2048, 1, 32768)), rounds = static_cast<int>(input["rounds"].integer(10, 1, 1000));
        size_t cells = static_cast<size_t>(n) * n, bytes = cells * sizeof(float);
        std::vector<float> a(cells), b(cells), c(cells);
        for (size_t i = 0; i < cells; i++) a[i] = static_cast<float>(i % 7) - 3, b[i] = static_cast<float>(i % 5) - 2;

        float *da, *db, *dc;
        CUDA_CHECK(cudaMalloc(&da, bytes));
        CUDA_CHECK(cudaMalloc(&db, bytes));
        CUDA_CHECK(cudaMalloc(&dc, bytes));
        CUDA_CHECK(cudaMemcpy(da, a.data(), bytes, cudaMemcpyHostToDevice));
        CUDA_CHECK(cudaMemcpy(db, b.data(), bytes, cudaMemcpyHostToDevice));
        dim3 grid((n + tile - 1) / tile, (n + tile - 1) / tile);
        sgemm<<<grid, 256>>>(da, db, dc, n); // warm
        CUDA_CHECK(cudaGetLastError());
        cudaEvent_t begin, end;
        CUDA_CHECK(cudaEventCreate(&begin));
        CUDA_CHECK(cudaEventCreate(&end));
        CUDA_CHECK(cudaEventRecord(begin));
        for (int i = 0; i < rounds; i++) sgemm<<<grid, 256>>>(da, db, dc, n);
        CUDA_CHECK(cudaEventRecord(end));
        CUDA_CHECK(cudaEventSynchronize(end));
        float milliseconds = 0;
        CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
        CUDA_CHECK(cudaMemcpy(c.data(), dc, bytes, cudaMemcpyDeviceToHost));

        double worst = 0; // of some cells: whole numbers, so the sums are exact
        for (size_t i = 0; i < cells; i += cells / 97 + 1) {
            double sum = 0;
            for (int k = 0; k < n; k++) sum += static_cast<double>(a[i / n * n + k]) * b[static_cast<size_t>(k) * n + i % n];
            worst = std::max(worst, std::fabs(sum - c[i]));
        }
        double flops = 2.0 * n * n * n * rounds / (milliseconds / 1000);
        warpket::result({{"n", n}, {"worstError", worst}, {"milliseconds", milliseconds / rounds}, {"teraflops", flops / 1e12}, {"target", "gpu"}});
    });
}
