#include <cmath>
#include <string>
#include <vector>

#include "warpket.h"

// One gate on one qubit: each thread changes one pair of amplitudes, whose
// indexes differ in that qubit's bit.
struct Gate {
    double2 m[4]; // row by row
};

__device__ double2 times(double2 a, double2 b) { return make_double2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
__device__ double2 plus(double2 a, double2 b) { return make_double2(a.x + b.x, a.y + b.y); }

__device__ size_t pairOf(size_t i, int qubit) { return (i >> qubit << (qubit + 1)) | (i & ((size_t{1} << qubit) - 1)); }

__global__ void apply(double2 *state, Gate gate, int qubit, size_t pairs) {
    for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < pairs; i += static_cast<size_t>(gridDim.x) * blockDim.x) {
        size_t low = pairOf(i, qubit), high = low | size_t{1} << qubit;
        double2 a = state[low], b = state[high];
        state[low] = plus(times(gate.m[0], a), times(gate.m[1], b));
        state[high] = plus(times(gate.m[2], a), times(gate.m[3], b));
    }
}

// CNOT swaps the pairs whose control bit is set.
__global__ void cnot(double2 *state, int control, int target, size_t pairs) {
    for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < pairs; i += static_cast<size_t>(gridDim.x) * blockDim.x) {
        size_t low = pairOf(i, target), high = low | size_t{1} << target;
        if (low >> control & 1) {
            double2 a = state[low];
            state[low] = state[high];
            state[high] = a;
        }
    }
}

// Entangles all qubits (GHZ) on a statevector and says how fast single gates are.
// The input is {"qubits": 24, "rounds": 10}.
int main() {
    return warpket::run([] {
        auto input = warpket::input();
        int qubits = static_cast<int>(input["qubits"].integer(24, 1, 34)), rounds = static_cast<int>(input["rounds"].integer(10, 1, 1000));
        size_t amplitudes = size_t{1} << qubits, pairs = amplitudes / 2;
        double2 *state;
        CUDA_CHECK(cudaMalloc(&state, amplitudes * sizeof(double2)));
        CUDA_CHECK(cudaMemset(state, 0, amplitudes * sizeof(double2)));
        double2 one = make_double2(1, 0);
        CUDA_CHECK(cudaMemcpy(state, &one, sizeof one, cudaMemcpyHostToDevice));

        int blocks = static_cast<int>(std::min<size_t>((pairs + 255) / 256, 65536));
        double r = std::sqrt(0.5);
        Gate h{{{r, 0}, {r, 0}, {r, 0}, {-r, 0}}};
        apply<<<blocks, 256>>>(state, h, 0, pairs);
        for (int q = 1; q < qubits; q++) cnot<<<blocks, 256>>>(state, 0, q, pairs);
        CUDA_CHECK(cudaGetLastError());
        double2 ends[2];
        CUDA_CHECK(cudaMemcpy(&ends[0], state, sizeof(double2), cudaMemcpyDeviceToHost));
        CUDA_CHECK(cudaMemcpy(&ends[1], state + amplitudes - 1, sizeof(double2), cudaMemcpyDeviceToHost));
        double zeros = ends[0].x * ends[0].x + ends[0].y * ends[0].y, ones = ends[1].x * ends[1].x + ends[1].y * ends[1].y;

        cudaEvent_t begin, end;
        CUDA_CHECK(cudaEventCreate(&begin));
        CUDA_CHECK(cudaEventCreate(&end));
        CUDA_CHECK(cudaEventRecord(begin));
        for (int i = 0; i < rounds; i++)
            for (int q = 0; q < qubits; q++) apply<<<blocks, 256>>>(state, h, q, pairs);
        CUDA_CHECK(cudaEventRecord(end));
        CUDA_CHECK(cudaEventSynchronize(end));
        float milliseconds = 0;
        CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
        double gates = static_cast<double>(rounds) * qubits, seconds = milliseconds / 1000;
        std::cout << gates / seconds << " gates per second" << std::endl;
        warpket::result({{"qubits", qubits},
                         {"probabilities", warpket::Json{{std::string(qubits, '0'), zeros}, {std::string(qubits, '1'), ones}}},
                         {"gatesPerSecond", gates / seconds},
                         {"gigabytesPerSecond", gates * 2 * static_cast<double>(amplitudes) * sizeof(double2) / seconds / 1e9},
                         {"target", "gpu"}});
    });
}
