//! Floors and ceilings that do not hand single messages over: measured beside
//! the others, never compared. (The floors of ping-pong do, and are in
//! [`crate::queues::line`].)

pub mod empty_syscall;
pub mod lines;
