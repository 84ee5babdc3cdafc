//! The variables of a container, as an expression: merged as `Variables::set` merges them.

use super::super::{
    cel::quoted,
    names::{DUMMY_ENV, OWN_PREFIX},
    variables,
};
use super::or_empty;

/// The names of dummies.
pub(super) fn dummies() -> String {
    let text = format!(
        "({0} in variables.annotations ? variables.annotations[{0}] : \
         ({0} in variables.annotationsOfNamespace ? variables.annotationsOfNamespace[{0}] : ''))",
        quoted(DUMMY_ENV)
    );
    format!("{text}.split(',').map(n, n.trim()).filter(n, n != '')")
}

/// The dummy of a name, as `variables::dummy` chooses it.
fn dummy(name: &str) -> String {
    let has = |part: &str| format!("{name}.upperAscii().contains('{part}')");
    format!(
        "({} ? {} : ({} ? ({} ? {} : ({} ? {} : {})) : {}))",
        has("QASE"),
        quoted(variables::dummy("QASE")),
        has("SLACK"),
        has("APP"),
        quoted(variables::dummy("SLACK_APP")),
        has("USER"),
        quoted(variables::dummy("SLACK_USER")),
        quoted(variables::dummy("SLACK")),
        quoted(variables::dummy("")),
    )
}

/// A container's variables, merged as `Variables::set` merges them. `c` is the container.
pub(super) fn env(c: &str) -> String {
    let own = format!("({})", or_empty(&format!("{c}.env"), "[]"));
    let merged = "['NO_PROXY', 'no_proxy', 'JAVA_TOOL_OPTIONS']";
    let present = format!(
        "(has(e.valueFrom) ? '$({OWN_PREFIX}' + e.name + ')' : (has(e.value) ? e.value : ''))"
    );
    let list = format!(
        "[{present}.split(',').map(x, x.trim()).filter(x, x != '')]\
         .map(p, (p + variables.noProxy.filter(n, !(n in p))).join(','))[0]"
    );
    let java = format!(
        "[{present}.trim()].map(p, p == '' ? variables.java : \
         (p.contains(variables.java) ? p : p + ' ' + variables.java))[0]"
    );
    let sources = format!(
        "{own}.filter(e, e.name in {merged} && has(e.valueFrom))\
         .map(e, {{'name': '{OWN_PREFIX}' + e.name, 'valueFrom': e.valueFrom}})"
    );
    let replaced = format!(
        "{own}.map(e, e.name in variables.fixed ? dyn({{'name': e.name, 'value': variables.fixed[e.name]}}) : \
         (e.name in variables.dummies ? dyn({{'name': e.name, 'value': {}}}) : \
         (e.name == 'JAVA_TOOL_OPTIONS' ? dyn({{'name': e.name, 'value': {java}}}) : \
         (e.name in {merged} ? dyn({{'name': e.name, 'value': {list}}}) : dyn(e)))))",
        dummy("e.name")
    );
    let absent = |names: &str| format!("{names}.filter(n, !{own}.exists(e, e.name == n))");
    let fixed = absent("variables.order.filter(n, n in variables.fixed)");
    let dummies = absent("variables.dummies");
    let rest = absent("variables.order.filter(n, !(n in variables.fixed))");
    format!(
        "{sources} + {replaced} + {fixed}.map(n, {{'name': n, 'value': variables.defaults[n]}}) + \
         {dummies}.map(n, {{'name': n, 'value': {}}}) + {rest}.map(n, {{'name': n, 'value': variables.defaults[n]}})",
        dummy("n")
    )
}
