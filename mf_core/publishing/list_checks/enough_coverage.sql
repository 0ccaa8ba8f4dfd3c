-- The lists that readers see cover at least the share publish.min_coverage of the items.
-- Rows above top_n are the reserve, which the view shows only in the place of hidden items, so they
-- do not count.
SELECT
  covered.n AS items_listed,
  snapshots.n_items AS items,
  :min_coverage AS share_needed
FROM {mf}.models
JOIN {mf}.snapshots USING (snapshot_id),
LATERAL (
  SELECT count(*) AS n
  FROM listed_items
  WHERE best_rank <= models.top_n
) AS covered
WHERE models.model_version = :model_version
  AND covered.n < :min_coverage * snapshots.n_items
