//! Positions that hold no record.

use std::ops::Range;

/// Ranges that are spelled out for people; of further ones the number of positions is told.
const RANGES_SHOWN_MAX: usize = 5;

/// The ranges inside `within` that hold none of `offsets`, which are in order of the log and may repeat.
pub fn between(within: Range<i64>, offsets: &[i64]) -> impl Iterator<Item = Range<i64>> {
    let mut at = within.start;
    offsets.iter().copied().chain([within.end]).filter_map(move |offset| {
        let gap = at..offset;
        at = offset.saturating_add(1);
        (!gap.is_empty()).then_some(gap)
    })
}

/// The longest of ranges, `most` at most, in order of their starts.
pub fn longest(mut ranges: Vec<Range<i64>>, most: usize) -> Vec<Range<i64>> {
    if ranges.len() > most {
        ranges.sort_by_key(|range| std::cmp::Reverse(range.end.saturating_sub(range.start)));
        ranges.truncate(most);
        ranges.sort_by_key(|range| range.start);
    }
    ranges
}

/// The positions of ranges.
pub fn positions(ranges: &[Range<i64>]) -> u64 {
    ranges.iter().map(|range| range.end.saturating_sub(range.start).max(0).unsigned_abs()).sum()
}

/// True if one of the ranges, which are in order, holds the position.
pub fn contains(ranges: &[Range<i64>], offset: i64) -> bool {
    let at = ranges.partition_point(|range| range.end <= offset);
    ranges.get(at).is_some_and(|range| range.contains(&offset))
}

/// Ranges as people read them; `all` is how many positions there are in all.
pub fn describe(ranges: &[Range<i64>], all: u64) -> String {
    let shown = ranges.get(..RANGES_SHOWN_MAX).unwrap_or(ranges);
    let text = shown.iter().map(|range| format!("[{}, {})", range.start, range.end)).collect::<Vec<_>>().join(", ");
    match all.saturating_sub(positions(shown)) {
        0 => text,
        more if shown.is_empty() => format!("{more} positions"),
        more => format!("{text} and {more} more positions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_in_front_of_between_and_behind_the_records() {
        let gaps = |offsets: &[i64]| between(10..20, offsets).collect::<Vec<_>>();
        assert_eq!(gaps(&[12, 12, 13, 17]), [10..12, 14..17, 18..20]);
        assert_eq!(describe(&gaps(&[]), 10), "[10, 20)");
        assert_eq!(gaps(&(10..20).collect::<Vec<_>>()), []);
        assert_eq!(positions(&gaps(&[12, 13, 17])), 7);
    }

    #[test]
    fn a_position_is_in_a_gap_or_not() {
        let gaps = [10..12, 14..17];
        let inside: Vec<i64> = (0..20).filter(|offset| contains(&gaps, *offset)).collect();
        assert_eq!(inside, [10, 11, 14, 15, 16]);
    }

    #[test]
    fn of_more_ranges_than_are_kept_the_longest_are() {
        let ranges = vec![0..1, 2..3, 10..90, 95..97, 98..99];
        assert_eq!(longest(ranges.clone(), 2), [10..90, 95..97]);
        assert_eq!(longest(ranges.clone(), 5), ranges);
    }

    #[test]
    fn ranges_that_are_not_spelled_out_are_counted() {
        let ranges: Vec<Range<i64>> = (0..7).map(|at| at * 10..at * 10 + 2).collect();
        assert_eq!(describe(&ranges[..2], 4), "[0, 2), [10, 12)");
        assert_eq!(describe(&ranges, 20), "[0, 2), [10, 12), [20, 22), [30, 32), [40, 42) and 10 more positions");
        assert_eq!(describe(&[], 3), "3 positions");
    }
}
