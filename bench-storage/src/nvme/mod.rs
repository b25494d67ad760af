//! NVMe namespaces without the block layer: commands that the kernel passes
//! through, by ioctl and by ring; and what drives say of themselves.
//!
//! **Invariant**: a node is opened for writing only where the session holds its
//! block device for writing, which the guard has cleared and whose word was
//! said (`Namespace::to_write`).

pub mod command;
pub mod facts;
pub mod health;
pub mod identify;
mod namespace;
pub mod status;

pub use namespace::Namespace;
