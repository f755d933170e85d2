#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace broker {

inline constexpr uint32_t kNil = 0xffffffff;

// Objects of one kind, named by small numbers and never moved, in blocks that are allocated as
// needed and reused, never given back: what one has seen under a number is there as long as the
// slab, which is what lets a lease id name its slot. Grows to the largest number that was in use at
// one time.
//
// Each block is twice the size of the one before, so that their addresses fit in two cache lines
// whatever the size, and large ones ask for huge pages: a random access to a million sessions costs
// a TLB miss otherwise, which is dearer than the cache miss. Memory past the highest number in use
// is never touched, so that it costs address space only.
//
// T needs a member `uint32_t next_free`, unless only Extend is used. Not thread-safe.
template <typename T>
class Slab {
 public:
  Slab() = default;
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  ~Slab() {
    for (uint32_t index = 0; index < size_; ++index) (*this)[index].~T();
    for (T* block : blocks_) std::free(block);
  }

  T& operator[](uint32_t index) { return *At(index); }
  const T& operator[](uint32_t index) const { return *At(index); }

  uint32_t Allocate() {
    if (free_ != kNil) {
      const uint32_t index = free_;
      free_ = (*this)[index].next_free;
      return index;
    }
    return Extend();
  }

  // A number that has not been in use.
  uint32_t Extend() {
    const uint32_t block = BlockOf(size_);
    if (blocks_[block] == nullptr) blocks_[block] = MakeBlock(kFirst << block);
    new (At(size_)) T();
    return size_++;
  }

  // The last one freed is the first one reused: it is still in the cache.
  void Free(uint32_t index) {
    (*this)[index].next_free = free_;
    free_ = index;
  }

  // Every number below this has been in use.
  uint32_t size() const { return size_; }

 private:
  static constexpr uint32_t kFirst = 32;  // Objects in the first block.
  static constexpr size_t kHugePage = size_t{2} << 20;

  // Numbers 0..31 are in block 0, 32..95 in block 1, and so on.
  static uint32_t BlockOf(uint32_t index) { return std::bit_width(index / kFirst + 1) - 1; }

  T* At(uint32_t index) const {
    const uint32_t block = BlockOf(index);
    return blocks_[block] + (index - ((kFirst << block) - kFirst));
  }

  static T* MakeBlock(size_t count) {
    const size_t bytes = count * sizeof(T);
    const bool large = bytes >= kHugePage;
    const size_t alignment = large ? kHugePage : std::max(alignof(T), size_t{64});
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (memory == nullptr) throw std::bad_alloc();
    if (large)
      madvise(memory, rounded, MADV_HUGEPAGE);  // A wish: nothing is lost if it is not heard.
    return static_cast<T*>(memory);
  }

  std::array<T*, 27> blocks_{};  // Enough for every number below kNil.
  uint32_t size_ = 0;
  uint32_t free_ = kNil;
};

// A place in an IndexList.
struct ListLinks {
  uint32_t prev = kNil;
  uint32_t next = kNil;
};

// A doubly linked list through members of what is in a slab; half the size of one with pointers.
template <typename T, ListLinks T::*Links>
class IndexList {
 public:
  uint32_t front() const { return front_; }
  uint32_t back() const { return back_; }
  bool empty() const { return front_ == kNil; }

  void PushBack(Slab<T>& slab, uint32_t index) {
    ListLinks& links = slab[index].*Links;
    links = {back_, kNil};
    (back_ == kNil ? front_ : (slab[back_].*Links).next) = index;
    back_ = index;
  }

  void Remove(Slab<T>& slab, uint32_t index) {
    ListLinks& links = slab[index].*Links;
    (links.prev == kNil ? front_ : (slab[links.prev].*Links).next) = links.next;
    (links.next == kNil ? back_ : (slab[links.next].*Links).prev) = links.prev;
    links = {};
  }

  // Puts all of `other` before what is here, and leaves it empty.
  void SpliceFront(Slab<T>& slab, IndexList& other) {
    if (other.empty()) return;
    (slab[other.back_].*Links).next = front_;
    (front_ == kNil ? back_ : (slab[front_].*Links).prev) = other.back_;
    front_ = other.front_;
    other = {};
  }

 private:
  uint32_t front_ = kNil;
  uint32_t back_ = kNil;
};

}  // namespace broker
