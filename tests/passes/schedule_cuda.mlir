// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1,8 prefill=64 prefill-form=split decode-form=split" --schedule-cuda="arch=sm_90" | FileCheck %s
// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1,8 decode-form=split" --schedule-cuda="arch=sm_120f sms=36" | FileCheck %s --check-prefix=SM120
// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1 decode-form=split" --schedule-cuda="arch=sm_120 sms=36 shared=65536" | FileCheck %s --check-prefix=LESS
// RUN: infer-opt %s --fuse-kernels --specialize-tokens="prefill=2048 prefill-form=half decode-form=split" --schedule-cuda="arch=sm_90a" | FileCheck %s --check-prefix=WIDE
// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1,3,4,8 decode-form=half" --schedule-cuda="arch=sm_90a" | FileCheck %s --check-prefix=TWINS
// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=8 decode-form=half" --schedule-cuda="arch=sm_89" | FileCheck %s --check-prefix=ALONE
// RUN: not infer-opt %s --fuse-kernels --specialize-tokens="decode=1 decode-form=split" --schedule-cuda="arch=sm_70" 2>&1 | FileCheck %s --check-prefix=BAD

// BAD: arch:

// What fixes the order of sums is the same for one token and for eight, though
// the rings are not.
// CHECK-DAG: kernel.func @down.0.t1({{.*}}cuda = #kernel.cuda<blocks = {{[0-9]+}}, split = 4, warps = 20, stages = {{[0-9]+}}>
// CHECK-DAG: kernel.func @down.0.t8({{.*}}cuda = #kernel.cuda<blocks = {{[0-9]+}}, split = 4, warps = 20, stages = {{[0-9]+}}>
// A block of a prompt has 128 rows.
// CHECK-DAG: kernel.func @down.0.p64({{.*}}cuda = #kernel.cuda<blocks = 40,
// A block of each multiprocessor takes tiles of 256 rows. 112 tokens wide they
// make 380, three rounds as with wider ones, each of which would take longer.
// WIDE: kernel.func @down.0.p2048({{.*}}cuda = #kernel.cuda<blocks = 132, stages = 11, warpgroup = 112>
// Less shared memory: fewer warps, so fewer columns per block.
// SM120-DAG: kernel.func @down.0.t1({{.*}}cuda = #kernel.cuda<blocks = 35, split = 7, warps = 12, stages = 4>
// SM120-DAG: kernel.func @down.0.t8({{.*}}cuda = #kernel.cuda<blocks = 35, split = 7, warps = 12>
// Blocks share what they prepare where there is much of it, and then go in
// pairs of the same columns.
// TWINS-DAG: kernel.func @down.0.t1({{.*}}cuda = #kernel.cuda<blocks = 132, split = 4, warps = 20, stages = 4>
// TWINS-DAG: kernel.func @down.0.t3({{.*}}cuda = #kernel.cuda<blocks = 128, split = 4, warps = 20, stages = 4, twins = 2>
// TWINS-DAG: kernel.func @down.0.t8({{.*}}cuda = #kernel.cuda<blocks = 128, split = 4, warps = 20, stages = {{[0-9]+}}, twins = 2>
// ALONE: kernel.func @down.0.t8
// ALONE-NOT: twins
// Less again: fewer columns per block.
// LESS: kernel.func @down.0.t1({{.*}}cuda = #kernel.cuda<blocks = 36, split = 12, warps = 10, stages = 4>
func.func @down(%x: tensor<?x17408xf32>) -> tensor<?x5120xf32> {
  %w = graph.weight "w" : !graph.weight<5120x17408, int4, 128>
  %y = graph.linear %x, %w : tensor<?x17408xf32>, !graph.weight<5120x17408, int4, 128> -> tensor<?x5120xf32>
  return %y : tensor<?x5120xf32>
}
