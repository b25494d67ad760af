//! How a CSV table is declared: each column once, with its name, type, unit
//! and meaning, from which the row struct, the header, the documentation and
//! the JSON schema all come.

/// What the cells of a column hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// A whole number without sign.
    Integer,
    /// A finite decimal number, `.` as the decimal mark.
    Number,
    /// Free text on one line.
    Text,
    /// One of these lower-case words.
    Word(&'static [&'static str]),
}

impl Kind {
    /// The name of the type in documentation and messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Text => "text",
            Kind::Word(_) => "word",
        }
    }

    /// The words of an enumeration; empty for the other kinds.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Kind::Word(words) => words,
            _ => &[],
        }
    }
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Column {
    /// The name in the header; the unit stands last in it.
    pub name: &'static str,
    /// What its cells hold.
    pub kind: Kind,
    /// Whether a cell may be empty, which means "not measured" or "none".
    pub optional: bool,
    /// The unit, empty for a count, a word or text.
    pub unit: &'static str,
    /// What the column says, in one or two sentences.
    pub meaning: &'static str,
}

/// A type that can stand in a cell.
pub trait Cell {
    /// What the cell holds.
    const KIND: Kind;
    /// Whether it may be empty.
    const OPTIONAL: bool = false;

    /// False for NaN and infinities, which no file of ours ever holds.
    fn is_finite(&self) -> bool {
        true
    }
}

impl Cell for u32 {
    const KIND: Kind = Kind::Integer;
}

impl Cell for u64 {
    const KIND: Kind = Kind::Integer;
}

impl Cell for f64 {
    const KIND: Kind = Kind::Number;

    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
}

impl Cell for String {
    const KIND: Kind = Kind::Text;
    // An empty text is a text, so every text column may be empty.
    const OPTIONAL: bool = true;
}

impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    fn is_finite(&self) -> bool {
        self.as_ref().is_none_or(Cell::is_finite)
    }
}

/// A row of one of our CSV files.
pub trait Table: serde::Serialize + serde::de::DeserializeOwned {
    /// The file name inside the run directory.
    const FILE: &'static str;
    /// What one row stands for.
    const ABOUT: &'static str;
    /// The columns in file order.
    const COLUMNS: &'static [Column];
    /// How many of the last columns older files of this layout lack; each of
    /// them may be empty.
    const LATER: usize = 0;

    /// The first column holding NaN or an infinity, if any.
    fn first_non_finite(&self) -> Option<&'static str>;

    /// The header line, without its end.
    fn header() -> String {
        let names: Vec<_> = Self::COLUMNS.iter().map(|c| c.name).collect();
        names.join(",")
    }
}

/// Declares a row struct and its columns in one place.
///
/// `name: type = "unit";` with the meaning as its documentation comment. The
/// last ones may have come `later`.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        pub struct $Row:ident in $file:literal $(, later $later:literal)? {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $type:ty = $unit:literal;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub struct $Row {
            $(
                $(#[doc = $meaning])+
                pub $field: $type,
            )+
        }

        impl $crate::schema::Table for $Row {
            const FILE: &'static str = $file;
            const ABOUT: &'static str = concat!($($about),+);
            const COLUMNS: &'static [$crate::schema::Column] = &[
                $($crate::schema::Column {
                    name: stringify!($field),
                    kind: <$type as $crate::schema::Cell>::KIND,
                    optional: <$type as $crate::schema::Cell>::OPTIONAL,
                    unit: $unit,
                    meaning: concat!($($meaning),+),
                },)+
            ];
            $(const LATER: usize = $later;)?

            fn first_non_finite(&self) -> Option<&'static str> {
                $(
                    if !$crate::schema::Cell::is_finite(&self.$field) {
                        return Some(stringify!($field));
                    }
                )+
                None
            }
        }
    };
}

/// Declares an enumeration whose variants are written as lower-case words.
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        pub enum $Name:ident {
            $(
                $(#[$attribute:meta])+
                $Variant:ident = $word:literal,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $Name {
            $(
                $(#[$attribute])+
                #[serde(rename = $word)]
                $Variant,
            )+
        }

        impl $Name {
            /// Every word, in declaration order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as it stands in the files.
            pub fn word(self) -> &'static str {
                match self {
                    $($Name::$Variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(
                &self,
                f: &mut std::fmt::Formatter<'_>,
            ) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl $crate::schema::Cell for $Name {
            const KIND: $crate::schema::Kind =
                $crate::schema::Kind::Word($Name::WORDS);
        }
    };
}

pub(crate) use {table, words};
