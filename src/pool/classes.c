/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/classes.h"

#define MAGAZINE_BYTES (256 * MRP_KIB) /* of blocks in one magazine, at most */
#define MAGAZINE_REGIONS 126 /* so that a magazine takes 1 KiB, at most */

static uint8_t tier_of(const struct mrp_size_classes *classes, size_t smallest_request)
{
    uint8_t tier = 0;

    while (tier < MRP_TIERS - 1 && smallest_request > classes->tier_max[tier]) {
        tier++;
    }
    return tier;
}

static void add_class(
    struct mrp_size_classes *classes, size_t block_size, size_t capacity)
{
    struct mrp_size_class *class = &classes->classes[classes->n_classes++];
    size_t regions = mrp_min(MAGAZINE_BYTES / block_size, MAGAZINE_REGIONS);

    class->block_size = block_size;
    class->capacity = capacity;
    class->reciprocal = UINT64_MAX / block_size + 1;
    class->magazine_capacity = (uint32_t)mrp_max(regions, 1);
    class->tier = tier_of(classes, classes->max_payload + 1);
    classes->max_payload = capacity;
}

static void add_standard(struct mrp_size_classes *classes)
{
    size_t overhead = classes->lead + classes->tailroom, last = 0;

    for (unsigned bin = 0; classes->max_payload < classes->tier_max[MRP_TIERS - 1];
         bin++) {
        size_t size = mrp_align_up(mrp_bin_upper(bin), classes->alignment);

        if (mrp_bin_upper(bin) % MRP_LINE == 0 && size > overhead && size > last) {
            add_class(classes, size, size - overhead);
            last = size;
        }
    }
}

static void index_bins(struct mrp_size_classes *classes)
{
    size_t index = 0;

    for (unsigned bin = 0; bin < MRP_BINS; bin++) {
        while (index < classes->n_classes - 1 &&
            classes->classes[index].block_size <= mrp_bin_lower(bin)) {
            index++;
        }
        classes->first_of_bin[bin] = (uint8_t)index;
    }
}

void mrp_size_classes_build(struct mrp_size_classes *classes, const size_t *tier_max,
    const size_t *block_sizes, size_t n_block_sizes, size_t lead, size_t tailroom,
    size_t alignment)
{
    *classes = (struct mrp_size_classes){
        .lead = lead,
        .tailroom = tailroom,
        .alignment = alignment,
    };
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        classes->tier_max[tier] = tier_max[tier];
    }
    for (size_t i = 0; i < n_block_sizes; i++) {
        add_class(classes, mrp_align_up(lead + block_sizes[i] + tailroom, alignment),
            block_sizes[i]);
    }
    if (n_block_sizes == 0) {
        add_standard(classes);
    }
    index_bins(classes);
}
