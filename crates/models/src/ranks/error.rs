//! What goes wrong between ranks.

use std::fmt;

/// Why a group of processes did not come together, or came apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RankError {
    /// A variable of the environment or the hostfile is missing or wrong.
    #[error("{place}: expected {expected}, found {found}")]
    Launch {
        /// The variable, or the hostfile and the entry.
        place: String,
        /// What is valid.
        expected: String,
        /// What is there.
        found: String,
    },

    /// The ranks could not be connected.
    #[error("rank {rank}: cannot join the other ranks: {reason}")]
    Join {
        /// This process.
        rank: usize,
        /// Why.
        reason: String,
    },

    /// Another rank is gone.
    #[error("rank {rank} is lost: {how}")]
    Lost {
        /// The rank that is gone.
        rank: usize,
        /// How.
        how: Loss,
    },

    /// A collective operation failed or does not end, and no rank is known to be at fault.
    #[error("the ranks cannot exchange data: {reason}")]
    Exchange {
        /// MLX's message, or how long it was waited for.
        reason: String,
    },

    /// A rank has something else than rank 0.
    #[error("rank {rank}: {what}: expected that of rank 0, {expected}, found {found}")]
    Differs {
        /// The rank.
        rank: usize,
        /// What differs.
        what: String,
        /// Rank 0's.
        expected: String,
        /// The rank's.
        found: String,
    },
}

/// How a rank was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Its connection was closed: it ended, was killed, or its machine is cut off.
    Closed,
    /// It has not been heard for so many seconds: it is stopped, or its machine sleeps or is cut off.
    Silent(u64),
    /// It did not come to an exchange for so many seconds.
    Late(u64),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(
                "its connection is closed: it has ended (see its own messages) or was killed",
            ),
            Self::Silent(seconds) => {
                write!(
                    f,
                    "not heard for {seconds} s: it is stopped, or its machine sleeps or is cut off"
                )
            }
            Self::Late(seconds) => write!(f, "it did not come to an exchange for {seconds} s"),
        }
    }
}
