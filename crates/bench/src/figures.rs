//! The tree that holds the names and figures of a measurement. It says nothing about how they are
//! shown.

/// A figure, or a table of figures.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A whole number.
    Count(u64),
    /// A measured value. If it is not finite, it is unknown.
    Figure(f64),
    /// Some text.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// Several texts, in order.
    Texts(Vec<String>),
    /// Pairs of an upper bound and a count: the number of values up to that bound.
    Buckets(Vec<(f64, u64)>),
    /// Figures by name.
    Table(Figures),
    /// Not measured.
    None,
}

/// Figures by name, in the order in which they are shown.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Figures(pub Vec<(String, Value)>);

impl Figures {
    pub(super) fn add(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find_map(|(each, value)| (each == name).then_some(value))
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<f64> for Value {
    fn from(figure: f64) -> Self {
        Self::Figure(figure)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Figures> for Value {
    fn from(table: Figures) -> Self {
        Self::Table(table)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
