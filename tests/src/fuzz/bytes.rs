//! The fuzzer's bytes as a sequence of decisions.
//!
//! Every decision takes as few bytes as it can, so that a mutation of one byte changes one decision and leaves those behind
//! it alone. Once the bytes are used up every decision is its first choice, and the body ends soon after.

/// What is left of an input.
#[derive(Clone, Debug)]
pub(super) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Reads decisions off `input`.
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether no decision is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte; 0 at the end.
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// One of several choices.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of several choices, or none of none.
    pub(super) fn pick_of<T: Clone>(&mut self, choices: impl IntoIterator<Item = T>) -> Option<T> {
        let choices: Vec<_> = choices.into_iter().take(256).collect();
        choices.get(self.below(choices.len())).cloned()
    }

    /// True once in `often` times, and never once the bytes are used up.
    pub(super) fn rarely(&mut self, often: u8) -> bool {
        !self.is_empty() && self.byte() % often == often - 1
    }

    /// Any number, mostly a small one.
    pub(super) fn number(&mut self) -> u64 {
        let short = u64::from(self.byte());
        match short {
            0..=0xf7 => short,
            0xf8..=0xfc => short << 8 | u64::from(self.byte()),
            0xfd => (1 << 53) - 1 - u64::from(self.byte()),
            0xfe => u64::MAX - u64::from(self.byte()),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// A number that is mostly `expected`, sometimes one beside it, and rarely any other.
    pub(super) fn near(&mut self, expected: u64) -> u64 {
        match self.byte() {
            0..=0xbf => expected,
            0xc0..=0xcf => expected.saturating_add(1),
            0xd0..=0xdf => expected.saturating_sub(1),
            0xe0..=0xe7 => 0,
            0xe8..=0xef => expected.saturating_mul(2),
            0xf0..=u8::MAX => self.number(),
        }
    }

    /// So many bytes, or what is left.
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A text of at most 255 bytes of the input, broken characters replaced.
    pub(super) fn text(&mut self) -> String {
        let len = usize::from(self.byte());
        String::from_utf8_lossy(self.take(len)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_read_in_order_and_end_with_first_choices() {
        let mut bytes = Bytes::new(&[5, 7, 2, b'a', b'b', 0xff]);
        assert_eq!(bytes.byte(), 5);
        assert_eq!(bytes.pick(&[10, 20, 30]), 20);
        assert_eq!(bytes.text(), "ab");
        assert_eq!(bytes.number(), 0);
        assert!(bytes.is_empty());
        assert_eq!((bytes.byte(), bytes.near(9), bytes.pick(&[1, 2]), bytes.rarely(1)), (0, 9, 1, false));
        assert_eq!(bytes.pick_of([0; 0]), None);
    }
}
