//! What goes wrong on the way: losses alone and in bursts, packets that are overtaken, packets that come twice.

use crate::dice::Dice;

/// How often what goes wrong. Default: nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// What is lost.
    pub loss: Loss,
    /// Chance, in parts of 2^32, that a packet is overtaken by those of the next [`Mishaps::late_ns`].
    pub reordered: u64,
    /// How much later a reordered packet comes.
    pub late_ns: u64,
    /// Chance, in parts of 2^32, that a packet comes twice.
    pub duplicated: u64,
}

/// Losses, by chances in parts of 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each packet with the same chance.
    Independent(u64),
    /// In bursts (Gilbert 1960): all are lost while it is bad, none while it is good.
    Bursts {
        /// The chance that it becomes bad, at each packet.
        begin: u64,
        /// The chance that it becomes good again, at each packet.
        end: u64,
    },
}

impl Loss {
    /// Whether the next packet is lost; `bad` is how the link stands.
    pub fn takes(self, bad: &mut bool, dice: &mut Dice) -> bool {
        match self {
            Self::None => false,
            Self::Independent(chance) => dice.chance(chance),
            Self::Bursts { begin, end } => {
                let turns = dice.chance(if *bad { end } else { begin });
                *bad ^= turns;
                *bad
            }
        }
    }
}

impl Mishaps {
    /// Whether anything can go wrong.
    pub fn is_possible(&self) -> bool {
        *self != Self::default()
    }
}
