// What common.cu has of a Hopper GPU besides threads (cuda_on_cpu.h): shared memory by 32-bit addresses, mbarriers, TMA.
// Each does what PTX defines at the moments that are worst for a kernel that waits too little: half of a load comes
// at once, the rest when its barrier is asked. What PTX leaves undefined is an error.
#include "cuda_on_cpu.h"

#define __align__(bytes) alignas(bytes)
#define __grid_constant__

static unsigned e4m3x2(float low, float high) { return e4m3_of(low) | e4m3_of(high) << 8; }
static unsigned bf16x2(float low, float high) { return bf16(low) | bf16(high) << 16; }

// A block's memory begins where a kernel that takes it for aligned goes wrong.
static const unsigned FIRST = 16;
static unsigned char shared_memory[1];
static unsigned shared_address(const void *) { return FIRST; }
static unsigned char *at(Block &block, unsigned address, unsigned bytes) {
  if (address < FIRST || address - FIRST + bytes > block.memory.size()) throw "outside of shared memory";
  return block.memory.data() + address - FIRST;
}
static Block &other(unsigned rank) {
  Block &block = blocks.at(rank);
  if (!block.running) throw "sent to a block that has ended";
  return block;
}

// `pending`: arrivals of the phase that are still to come; `bytes`: those expected less those that came.
struct Barrier { short count, pending; int bytes : 31; unsigned phase : 1; };
static_assert(sizeof(Barrier) == 8, "");

static Barrier &barrier_at(Block &block, unsigned address) {
  Barrier &barrier = *(Barrier *)at(block, address, 8);
  if (address % 8 || !barrier.count) throw "not a barrier, or not set yet";
  return barrier;
}
static void change(Barrier &barrier, int arrivals, int bytes) {
  if (barrier.pending < arrivals) throw "more came to a barrier than it counts";
  progressed = true;
  barrier.pending -= arrivals;
  barrier.bytes += bytes;
  if (!barrier.pending && !barrier.bytes) barrier.pending = barrier.count, barrier.phase ^= 1;
}
static void barrier_init(unsigned barrier, unsigned count) {
  *(Barrier *)at(*current->block, barrier, 8) = {(short)count, (short)count, 0, 0};
}
static void fence_barrier_init() {}
static void barrier_arrive_expect(unsigned barrier, unsigned bytes) {
  change(barrier_at(*current->block, barrier), 1, (int)bytes);
}

// 128-byte swizzle: where a byte lies, in each 1,024.
static unsigned swizzled(unsigned address) { return address ^ (address >> 3 & 0x70); }

struct TensorMap;

// Chunks of 16 bytes of a box: every other one, and those between.
static void copy_half(Block &block, const Load &load, int which) {
  const Map &map = load.map;
  int rows = 1;
  for (int i = 1; i < map.rank; i++) rows *= map.box[i];
  for (int chunk = 0; chunk < rows * 8; chunk++) {
    if ((chunk ^ chunk / 8) % 2 != which) continue;
    const int column = load.from[0] + chunk % 8 * 16;
    const unsigned char *source = map.address + column;
    bool inside = column < map.sizes[0];
    for (int i = 1, rest = chunk / 8; i < map.rank; rest /= map.box[i++]) {
      const int index = load.from[i] + rest % map.box[i];
      inside &= index >= 0 && index < map.sizes[i];
      source += index * map.strides[i - 1];
    }
    unsigned char *destination = at(block, swizzled(load.to + chunk * 16), 16);
    if (inside) std::memcpy(destination, source, 16);
    else std::memset(destination, 0, 16);
  }
}
static void load_box(Block &block, unsigned to, const TensorMap *descriptor, std::vector<int> from, unsigned barrier) {
  if (to % 1024) throw "a swizzled box begins at a multiple of 1,024";
  block.loads.push_back({to, barrier, *(const Map *)descriptor, from});
  copy_half(block, block.loads.back(), 0);
}
static bool barrier_try_wait(unsigned address, unsigned parity) {
  Block &block = *current->block;
  Barrier &barrier = barrier_at(block, address);
  for (auto load = block.loads.begin(); load != block.loads.end();) {
    if (load->barrier != address) {
      load++;
      continue;
    }
    copy_half(block, *load, 1);
    int bytes = 128;
    for (int d = 1; d < load->map.rank; d++) bytes *= load->map.box[d];
    load = block.loads.erase(load);
    change(barrier, 0, -bytes);
  }
  const bool passed = barrier.phase != parity;
  if (!passed) wait();
  return passed;
}
