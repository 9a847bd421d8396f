//! The number by which Xen knows a domain while it runs.

use std::fmt;

/// A domid: given anew at each start, so it names a domain for as long as it runs and no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domid(u16);

impl Domid {
    /// The control domain.
    pub const DOM0: Self = Self(0);
    /// The first number that no domain has: `DOMID_FIRST_RESERVED` of Xen's public headers.
    pub const END: u16 = 0x7ff0;

    /// The domid `number`; `None` when no domain can have it.
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number < Self::END).map(Self)
    }

    /// Reads it as xl and xenstore write it: decimal digits, no sign and no leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u32 = text.parse().ok().filter(|_| plain && (text == "0" || !text.starts_with('0')))?;
        Self::new(number)
    }

    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Domid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
