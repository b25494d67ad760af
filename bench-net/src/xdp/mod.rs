//! AF_XDP without a C library: the program that picks our frames out of a
//! device's receive path, and the socket that they go to.
//!
//! | where | what |
//! |---|---|
//! | [`instruction`] | the few BPF instructions that are needed |
//! | [`program`] | the filter: our frames to the socket, all others pass |
//! | [`bpf`] | `bpf(2)`: maps, programs, links |
//! | [`device`] | filter and socket on a device; how they really work, read back |
//! | [`umem`] | frames: memory shared with the kernel |
//! | [`rings`] | the four rings that move frames to and fro |
//! | [`socket`] | the socket made of these |
//! | [`packet`] | whole packets, headers included |
//! | [`probe`] | whether this machine and user can have it |
//!
//! **Invariants.** Nothing is forced: a device that has an XDP program keeps
//! it. Nothing outlives its owner: program, link and socket are descriptors.
//! Copy or zero-copy, native or generic are asked for by name and read back.
//! `unsafe` is in the modules that talk to the kernel, none in the variants.

pub mod bpf;
pub mod device;
pub mod instruction;
pub mod packet;
pub mod probe;
pub mod program;
pub mod rings;
pub mod socket;
mod sys;
pub mod umem;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
