//! The word lists of the refusal classifier.

/// Words, separated by spaces.
pub(super) struct Words(&'static str);

impl Words {
    /// Whether the word is one of them.
    pub(super) fn contains(&self, word: &str) -> bool {
        self.0.split(' ').any(|known| known == word)
    }
}

/// Verbs of doing or giving what was asked: "we don't V" and "cannot V" decline with these only.
pub(super) const GIVE: Words = Words(
    "accommodate act advise agree aid allow answer approve assist authorise authorize break build \
     bypass carry change complete comply compose condone continue copy cover craft create deliver \
     describe design disable disclose discuss do draft encourage endorse engage entertain execute \
     explain facilitate fake follow forge fulfil fulfill generate give go grant guide hack hand \
     handle help honor honour ignore impersonate instruct join leak lend let lie list make name obey \
     oblige offer open override participate perform permit play pose post prescribe pretend proceed \
     produce promote provide publish read release repeat respond reveal role-play roleplay run sell \
     send serve share show sign spell spill spread suggest supply support talk take teach tell track \
     unlock upload walk write",
);

/// Verbs of telling, whose passive declines ("that cannot be shared").
pub(super) const DISCLOSED: Words = Words(
    "shared disclosed given provided revealed discussed handed granted fulfilled fulfiled honoured \
     honored answered released done published accommodated told completed processed",
);

/// "I can't V": what the speaker does not perceive, know or reach, which is no unwillingness.
pub(super) const LIMITS: Words = Words(
    "age believe blush calculate connect count detect determine distinguish dream drink eat \
     estimate exclude expect feel find fly foresee guess have hear imagine know locate measure \
     notice observe picture pinpoint predict prove reach recall recognise recognize remember see \
     smell spot starve swim taste test think understand watch",
);

/// Verbs with which "I can't" or "I won't" is an idiom or says something about the speaker.
pub(super) const IDIOMS: Words = Words(
    "afford annoy argue bear beat believe blame boast bore bother brag charge claim complain deny \
     disagree dispute distract disturb dwell emphasise emphasize fault forget hurt insist \
     interrupt judge lecture mention mince mind nag need object overload overstate promise \
     quarrel resist rush spoil stand stress sugar-coat sugarcoat thank underestimate wait wake \
     waste worry",
);

/// Verbs whose object is a part of a sentence: "I can't tell whether ...".
pub(super) const UNCERTAIN: Words = Words(
    "whether if why when exactly precisely apart which yet from for enough certain sure offhand \
     reliably either",
);

/// Words that stand for what was asked.
pub(super) const REQUEST: Words = Words(
    "that this it those these them such so request requests demand ask with you any anything either",
);

/// Verbs of a request as a whole.
pub(super) const COMPLY: Words = Words(
    "help assist comply oblige participate proceed continue cooperate co-operate accommodate respond \
     do go engage agree fulfil fulfill play aid support entertain grant take",
);

/// Adverbs between a subject, its auxiliary and its verb.
pub(super) const ADVERBS: Words = Words(
    "absolutely actually also always certainly clearly definitely even ever firmly flatly frankly \
     honestly just knowingly kindly legally merely obviously politely possibly probably really \
     respectfully simply still therefore thus truly unfortunately willingly regrettably sadly happily \
     personally gladly thereby sorry afraid currently directly either again morally ethically now \
     then to hereby openly freely readily secretly blindly quietly",
);

/// Phrases that may stand anywhere in a clause and change nothing.
pub(super) const FILLERS: &[&str] = &[
    "in good conscience",
    "in good faith",
    "under any circumstances",
    "under any circumstance",
    "of course",
    "as well",
    "at all",
    "in any way",
    "by any means",
    "for any reason",
    "i'm afraid",
    "i am afraid",
    "to be honest",
    "to be clear",
    "for one",
    "with good conscience",
    "in all honesty",
    "as such",
    "in any case",
    "no matter what",
    "at any price",
    "in any form",
    "if you ask me",
    "i'm sorry",
    "i am sorry",
    "as a matter of principle",
    "on principle",
    "in principle",
    "whatever you say",
    "for that matter",
];

/// Words before a verb without a subject that leave it at the beginning: "Sorry, can't do that."
pub(super) const INTERJECTIONS: Words = Words(
    "sorry no nope honestly thanks well unfortunately sadly hey ah oh hm hmm really frankly apologies \
     regrettably look friend nah yikes but however alas regretfully afraid still so simply just",
);

/// Words before "I can't" that make it a condition, a question or a relative clause.
pub(super) const CONDITIONS: Words = Words(
    "if when whenever unless case why what until where which who whom how once whatever wherever \
     things places files one ones whether before",
);

/// Verbs that begin an instruction.
pub(super) const IMPERATIVES: Words = Words(
    "add aim apply attach bake boil break buy change choose clean click close combine connect copy \
     cover crush cut delete dial disconnect dissolve download drag drill drink drop dry edit empty \
     enter fill find fold get go grab grind heat hit hold insert install jam keep lift light load \
     lower measure mix move open paste pick place plug pour press pull push put raise reboot remove \
     replace reset restart rinse rotate run scrape select send set shake slide spray start stir stop \
     swap switch take tap throw tie tighten tilt turn type unplug unscrew update use wait warm wash \
     wear inhale exhale breathe rub sprinkle clear sort log scan unlock lock sit lie eat follow \
     disable enable bring repeat wipe write prune block sync stretch cool pay check wrap feed search \
     soak",
);

/// Verbs that send the user to somebody else, or speak of care rather than of the request.
pub(super) const REFERRALS: Words = Words(
    "ask call contact talk speak reach see consult visit seek report tell phone ring rely try find \
     turn go take write trust expect count always still feel understand wait imagine use get choose \
     bring check look file request apply be have leave say know keep ping need",
);
