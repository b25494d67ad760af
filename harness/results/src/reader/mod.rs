//! Reads a run directory: streaming, tolerant of an end that was cut off,
//! strict about everything else.

mod error;
mod rows;
mod side;
mod trials;

pub use error::{Place, ReadError};
pub(crate) use rows::open_regular;
pub use rows::{Located, Rows};
pub use side::{read_compare, read_metrics, read_windows};
pub use trials::{Block, Blocks, Torn, Trials, read_trials};
