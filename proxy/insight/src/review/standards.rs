//! Which requirement of which standard a finding belongs to.

use serde::Serialize;

/// Where three standards speak of it: the OWASP Non-Human Identities Top 10 (2025), the NIST Cybersecurity
/// Framework 2.0 and the tenets of zero trust in NIST SP 800-207, section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Standards {
    /// A risk of OWASP's list.
    pub owasp: &'static str,
    /// A subcategory of the framework.
    pub csf: &'static str,
    /// A tenet.
    pub zero_trust: &'static str,
}

impl Standards {
    pub(super) const OWNERSHIP: Self = Self {
        owasp: "NHI1:2025 Improper Offboarding",
        csf: "GV.RR-02 Roles and responsibilities",
        zero_trust: "SP 800-207 tenet 5: integrity and posture of assets are monitored",
    };
    pub(super) const REVIEW: Self = Self {
        owasp: "NHI1:2025 Improper Offboarding",
        csf: "PR.AA-05 Permissions are reviewed",
        zero_trust: "SP 800-207 tenet 4: access is determined by policy",
    };
    pub(super) const UNUSED: Self = Self {
        owasp: "NHI1:2025 Improper Offboarding",
        csf: "PR.AA-05 Least privilege",
        zero_trust: "SP 800-207 tenet 3: access is granted per session, with the least privilege",
    };
    pub(super) const TOO_WIDE: Self = Self {
        owasp: "NHI5:2025 Overprivileged NHI",
        csf: "PR.AA-05 Least privilege",
        zero_trust: "SP 800-207 tenet 3: access is granted per session, with the least privilege",
    };
    pub(super) const LONG_LIVED: Self = Self {
        owasp: "NHI7:2025 Long-Lived Secrets",
        csf: "PR.AA-01 Credentials are managed",
        zero_trust: "SP 800-207 tenet 6: authentication is dynamic and strictly enforced",
    };
    pub(super) const REUSE: Self = Self {
        owasp: "NHI9:2025 NHI Reuse",
        csf: "PR.AA-01 Identities are managed",
        zero_trust: "SP 800-207 tenet 6: authentication is dynamic and strictly enforced",
    };
    pub(super) const ISOLATION: Self = Self {
        owasp: "NHI8:2025 Environment Isolation",
        csf: "PR.AA-05 Separation of duties",
        zero_trust: "SP 800-207 tenet 3: access is granted per session, with the least privilege",
    };
    pub(super) const UNSEEN: Self = Self {
        owasp: "NHI4:2025 Insecure Authentication",
        csf: "DE.CM-01 Networks are monitored",
        zero_trust: "SP 800-207 tenet 2: all communication is secured wherever it is",
    };
    pub(super) const UNKNOWN: Self = Self {
        owasp: "NHI1:2025 Improper Offboarding",
        csf: "ID.AM-03 Authorised communication is represented",
        zero_trust: "SP 800-207 tenet 6: authorisation is dynamic and strictly enforced",
    };
}
