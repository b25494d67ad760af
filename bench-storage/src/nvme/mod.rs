//! NVMe namespaces without the block layer: commands that the kernel passes
//! through, by ioctl and by ring; and what drives say of themselves.
//!
//! **Invariant**: only commands that read are made here, and nodes are opened
//! for reading only.

pub mod command;
pub mod facts;
pub mod health;
pub mod identify;
mod namespace;
pub mod status;

pub use namespace::Namespace;
