/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/classes.h"

const char *const mrp_tier_names[MRP_TIERS] = {"small", "medium", "large", "huge"};

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
    struct mrp_size_class *class = &classes->classes[classes->n_base++];

    class->block_size = block_size;
    class->capacity = capacity;
    class->reciprocal = UINT64_MAX / block_size + 1;
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
        while (index < classes->n_base - 1 &&
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
    mrp_store_relaxed(&classes->n_classes, classes->n_base);
}

/* Every request whose block is of this bin is the class's. A sum of size and overhead
 * that overflows falls into the bin of the overhead or below: those are nobody's. */
static bool is_exact(const struct mrp_size_classes *classes, size_t index, unsigned bin)
{
    const struct mrp_size_class *class = &classes->classes[index];
    size_t overhead = classes->lead + classes->tailroom;
    size_t before = index == 0 ? 0 : class[-1].block_size;
    /* those next to empty bins take their sizes, too */
    size_t lower = mrp_align_down(mrp_bin_lower(bin), MRP_LINE);

    return class->block_size == mrp_bin_upper(bin) && lower >= before &&
        class->block_size == class->capacity + overhead && lower >= overhead;
}

void mrp_size_classes_divide(struct mrp_size_classes *classes, size_t magazine_size)
{
    unsigned next = MRP_BINS;

    for (size_t i = 0; i < classes->n_base; i++) {
        struct mrp_size_class *class = &classes->classes[i];
        unsigned bin = (unsigned)mrp_v1_bin(class->block_size);

        class->magazine_capacity = (uint32_t)mrp_max(
            mrp_min(magazine_size / class->block_size, MRP_MAGAZINE_REGIONS), 1);
        class->bin = 0;
        if (class->magazine_capacity > 1 && is_exact(classes, i, bin)) {
            class->bin = (uint16_t)bin;
        } else if (class->magazine_capacity > 1 && next < MRP_V1_BINS) {
            class->bin = (uint16_t)next++;
        }
    }
}

bool mrp_size_classes_find_lane(
    const struct mrp_size_classes *classes, int node, unsigned *first)
{
    size_t n = mrp_n_classes(classes);

    for (size_t class = 0; class < n; class += classes->n_base) {
        if (classes->classes[class].node == node) {
            *first = (unsigned)class;
            return true;
        }
    }
    return false;
}

bool mrp_size_classes_extend(struct mrp_size_classes *classes, int node, unsigned *first)
{
    size_t n = mrp_load_relaxed(&classes->n_classes);

    if (n + classes->n_base > MRP_CLASSES_MAX) {
        return false;
    }
    for (size_t i = 0; i < classes->n_base; i++) {
        classes->classes[n + i] = classes->classes[i];
        classes->classes[n + i].node = node;
        classes->classes[n + i].bin =
            0; /* bins of arenas are for the pool's own memory */
    }
    /* pairs with the acquire in mrp_n_classes() */
    mrp_store_release(&classes->n_classes, n + classes->n_base);
    *first = (unsigned)n;
    return true;
}
