//! Policy's reasons, by their names in answers and records.

use countersign_config::policy::DenyReason;
use countersign_core::reason::Reason;

/// Policy's reasons by their names in answers and records.
pub fn reason(reason: DenyReason) -> Reason {
    match reason {
        DenyReason::WorkloadUnknown => Reason::WorkloadUnknown,
        DenyReason::TargetNotGranted => Reason::TargetNotGranted,
        DenyReason::RequestNotAllowed => Reason::RequestNotAllowed,
        DenyReason::OutsideSchedule => Reason::OutsideSchedule,
        DenyReason::PolicyExpired => Reason::PolicyExpired,
        DenyReason::ConditionFalse => Reason::ConditionFalse,
        DenyReason::ConditionError => Reason::ConditionError,
        DenyReason::PathDenied => Reason::PathDenied,
        DenyReason::NoRoute => Reason::NoRoute,
        DenyReason::SlotNotGranted => Reason::SlotNotGranted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_and_answers_call_a_reason_by_one_name() {
        for denied in DenyReason::ALL {
            assert_eq!(denied.as_str(), reason(denied).facts().code);
        }
    }
}
