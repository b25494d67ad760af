//! What the ring is built on: the standard library's types, or loom's models
//! of them in tests with the feature `loom`.

#[cfg(all(test, feature = "loom"))]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

#[cfg(not(all(test, feature = "loom")))]
pub(super) use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

#[cfg(not(all(test, feature = "loom")))]
pub(super) use plain::UnsafeCell;

#[cfg(not(all(test, feature = "loom")))]
mod plain {
    /// The standard cell with loom's way of access, which tells reads from
    /// writes.
    #[repr(transparent)]
    pub(in crate::ring) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in crate::ring) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(in crate::ring) fn with<R>(
            &self,
            read: impl FnOnce(*const T) -> R,
        ) -> R {
            read(self.0.get())
        }

        #[inline(always)]
        pub(in crate::ring) fn with_mut<R>(
            &self,
            write: impl FnOnce(*mut T) -> R,
        ) -> R {
            write(self.0.get())
        }
    }
}
