//! The ways in which the simulator can misbehave.

use std::collections::BTreeMap;

/// How the PACS behaves. The default is a PACS in good health that knows the whole standard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Refuses every association.
    pub reject: Option<Rejection>,
    /// Refuses associations beyond this many with "local limit exceeded" (transient).
    pub max_associations: Option<usize>,
    /// Accepts the connection and never answers the association request.
    pub silent: bool,
    /// Answers the association request with bytes that are no PDU.
    pub garbage: bool,
    /// Accepts no presentation context of the C-GET service.
    pub without_get: bool,
    /// Accepts no presentation context of a storage service.
    pub without_storage: bool,
    /// Closes the connection after each service, without a word.
    pub closes_after_service: bool,

    /// What goes wrong in a C-FIND.
    pub find: Option<FindFault>,
    /// Silently stops after this many matches.
    pub max_results: Option<usize>,
    /// Leaves the `NumberOf…Related…` attributes empty, as if it did not know them.
    pub without_related_counts: bool,
    /// Refuses queries below the study level that do not name their parents (0xA900).
    pub without_relational_queries: bool,
    /// Compares no key but UIDs, and answers with everything else.
    pub ignores_keys: bool,
    /// Answers attributes of the level asked for, and those of no level above.
    pub own_level_only: bool,
    /// Answers in another order each time.
    pub shuffles: bool,
    /// What it takes of the SOP class extended negotiation of queries (PS3.4 §C.5.1.1.1); `None`: it
    /// does not answer it.
    pub abilities: Option<Abilities>,
    /// Answers text in ISO 8859-1 without (0008,0005); else in UTF-8, declared.
    pub undeclared_latin1: bool,

    /// What goes wrong at the n-th C-STORE (from 1) of each retrieval.
    pub store: BTreeMap<usize, StoreFault>,
    /// Stops before the n-th C-STORE (from 1) of each retrieval until this changes.
    pub hold_before: Option<usize>,
    /// Refuses retrievals with this status (0xA701, 0xA702, 0xA801, 0xC000, …).
    pub retrieve_status: Option<u16>,
    /// Does not send the last so many objects of a retrieval, and says it did.
    pub loses: usize,
    /// Sends, and counts, this many objects that were not asked for.
    pub unasked: usize,
    /// Sends the final response of a retrieval before its last C-STORE.
    pub final_response_early: bool,
    /// Does not send the pending responses of a retrieval.
    pub without_pending: bool,
    /// Does not count the sub-operations of a retrieval in its responses.
    pub without_counters: bool,
    /// Goes on after a C-CANCEL.
    pub ignores_cancel: bool,
    /// Leaves out (0000,1030) and (0000,1031) in the C-STORE of a C-MOVE.
    pub without_move_originator: bool,
    /// Associations over which it sends the objects of one C-MOVE.
    pub move_associations: usize,

    /// Bytes of data in a PDU that it sends, at most.
    pub pdu_length: usize,
    /// Nagle's algorithm off.
    pub nodelay: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            reject: None,
            max_associations: None,
            silent: false,
            garbage: false,
            without_get: false,
            without_storage: false,
            closes_after_service: false,
            find: None,
            max_results: None,
            without_related_counts: false,
            without_relational_queries: false,
            ignores_keys: false,
            own_level_only: false,
            shuffles: false,
            abilities: None,
            undeclared_latin1: false,
            store: BTreeMap::new(),
            hold_before: None,
            retrieve_status: None,
            loses: 0,
            unasked: 0,
            final_response_early: false,
            without_pending: false,
            without_counters: false,
            ignores_cancel: false,
            without_move_originator: false,
            move_associations: 1,
            pdu_length: 64 * 1024,
            nodelay: true,
        }
    }
}

/// What a PACS does in queries once it was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Queries that do not name every parent.
    pub relational: bool,
    /// A range of dates and one of times as one range of moments.
    pub date_time: bool,
    /// Names of persons by how they sound: without vowels, in any order of their parts.
    pub fuzzy_names: bool,
}

impl Abilities {
    /// Both sides' abilities.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            relational: self.relational && other.relational,
            date_time: self.date_time && other.date_time,
            fuzzy_names: self.fuzzy_names && other.fuzzy_names,
        }
    }

    pub(super) fn parse(fields: &[u8]) -> Self {
        let field = |at: usize| fields.get(at) == Some(&1);
        Self {
            relational: field(0),
            date_time: field(1),
            fuzzy_names: field(2),
        }
    }

    pub(super) fn fields(self) -> Vec<u8> {
        let fields = [self.relational, self.date_time, self.fuzzy_names];
        fields.map(u8::from).to_vec()
    }
}

/// Why an association is refused (PS3.8 §9.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Calling AE title not recognised (permanent, by the user).
    CallingAeTitle,
    /// Called AE title not recognised (permanent, by the user).
    CalledAeTitle,
    /// Application context not supported (permanent, by the user).
    ApplicationContext,
    /// No reason given (permanent, by the user).
    NoReason,
    /// Protocol version not supported (permanent, by the provider).
    ProtocolVersion,
    /// Temporary congestion (transient, by the provider).
    Congestion,
    /// Local limit exceeded (transient, by the provider).
    LocalLimit,
}

/// What goes wrong in a C-FIND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindFault {
    /// A final response with this status and no match.
    Status(u16),
    /// No response at all.
    Stall,
    /// The connection closes after this many matches.
    DieAfter(usize),
    /// A-ABORT after this many matches.
    AbortAfter(usize),
    /// Bytes that are no PDU after this many matches.
    GarbageAfter(usize),
    /// Matches without end, until cancelled or hung up.
    Endless,
}

/// What goes wrong at one C-STORE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The connection closes in the middle of the data set.
    Die,
    /// A-ABORT in the middle of the data set.
    Abort,
    /// Nothing more comes, from the middle of the data set, until the behaviour changes.
    Stall,
    /// Bytes that are no PDU in the middle of the data set.
    Garbage,
    /// A P-DATA-TF whose header says that 4 GB follow.
    OversizedPdu,
    /// The data set holds an element whose length says 4 GB; nothing else is wrong.
    HugeElement,
    /// The data set ends in the middle of an element, in good order for DIMSE.
    Truncated,
    /// The sub-operation is not done, and reported as failed.
    Failed,
    /// The sub-operation is done, and reported with a warning.
    Warning,
    /// The object is sent twice, and counted twice.
    Twice,
    /// The data set carries another SOP Instance UID than its command.
    OtherUidInside,
    /// The message uses a presentation context that was refused.
    RefusedContext,
}
